package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/output"
)

func imageCommand(s *settings) *cobra.Command {
	var dir string
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "image RECIPE",
		Short: "Build a recipe's disk",
		Long: `image builds the recipe's disk and writes, into one folder, all of these or none:

    NAME_VERSION_ARCH.raw            the disk, with holes where nothing is
    NAME_VERSION_ARCH.oci.tar        the root as a container image (output.formats: oci)
    NAME_VERSION_ARCH.efi            its unified kernel image
    NAME_VERSION_ARCH.roothash       the root hash of its dm-verity tree
    NAME_VERSION_ARCH.manifest.json  packages, partitions, digests
    NAME_VERSION_ARCH.spdx.json      bill of materials (SPDX 2.3)
    SHA256SUMS                       digests of all these

The packages' exact versions are kept beside the recipe, in RECIPE.lock.yml.`,
		Args: exactly(1, "one recipe"),
		RunE: func(cmd *cobra.Command, args []string) error {
			recipe, err := s.recipe(args[0])
			if err != nil {
				return err
			}
			out := outputDir(dir, recipe)
			return s.withBuilder(cmd.Context(), func(b *builder.Builder, p *progress) error {
				built, err := b.Image(cmd.Context(), recipe, builder.ImageOptions{Dir: out, Force: force})
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(s.stdout).Encode(built)
				}
				if !s.quiet {
					s.summary(out, built, p)
				}
				return nil
			})
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().StringVarP(&dir, "output", "o", "", "folder for the disk and what goes with it (default the recipe's output.dir, else ./out)")
	cmd.Flags().BoolVar(&force, "force", false, "replace files that are there and differ")
	cmd.Flags().BoolVar(&s.locked, "locked", false, "refuse a lock that is missing or does not fit the recipe")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the files and the root hash as JSON")
	return cmd
}

// summary prints the files, their sizes, the root hash and the seconds.
func (s *settings) summary(dir string, built *builder.Built, p *progress) {
	if built.UpToDate {
		fmt.Fprintln(s.stdout, "up to date")
	}
	for _, f := range built.Files {
		line := fmt.Sprintf("%10s  %s", byteText(f.Size), filepath.Join(dir, f.Name))
		if held := onDisk(filepath.Join(dir, f.Name)); held > 0 && held < f.Size {
			line += fmt.Sprintf(" (%s on disk)", byteText(held))
		}
		fmt.Fprintln(s.stdout, line)
	}
	fmt.Fprintf(s.stdout, "%10s  %s\n", "", filepath.Join(dir, output.SumsName))
	if built.RootHash != "" {
		fmt.Fprintf(s.stdout, "root hash   %s\n", built.RootHash)
	}
	for _, stage := range p.stages() {
		if stage.Cached {
			fmt.Fprintf(s.stdout, "%10s  %s (kept)\n", seconds(stage.Took), stage.Name)
		} else {
			fmt.Fprintf(s.stdout, "%10s  %s\n", seconds(stage.Took), stage.Name)
		}
	}
	fmt.Fprintf(s.stdout, "%10s  in all\n", seconds(p.elapsed()))
}

// onDisk is how many bytes a file takes where it lies: less than its size
// where it has holes.
func onDisk(name string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		return 0
	}
	const unit = 512 // of st_blocks, whatever the file system's blocks are
	return st.Blocks * unit
}

func lockCommand(s *settings) *cobra.Command {
	var update bool
	cmd := &cobra.Command{
		Use:   "lock RECIPE [PACKAGE|IMAGE...]",
		Short: "Choose exact package versions and write RECIPE.lock.yml",
		Long: `lock asks the archive which packages the recipe comes to now and writes them,
with versions and digests, to RECIPE.lock.yml. A lock that fits its recipe is left
alone unless --update is given; with PACKAGE or IMAGE only these move on. Tags of
container images that have moved since are told.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s takes a recipe: see `%s --help`", cmd.CommandPath(), cmd.CommandPath())}
			}
			if len(args) > 1 && !update {
				return usageError{fmt.Errorf("packages are named with --update only: see `%s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			recipe, err := s.recipe(args[0])
			if err != nil {
				return err
			}
			return s.withBuilder(cmd.Context(), func(b *builder.Builder, _ *progress) error {
				l, changed, err := b.Relock(cmd.Context(), recipe, builder.LockOptions{Update: update, Only: args[1:]})
				if err != nil {
					return err
				}
				if s.quiet {
					return nil
				}
				name := lock.PathFor(recipe.File())
				if !changed {
					fmt.Fprintf(s.stdout, "%s fits, %d packages\n", name, len(l.Packages))
					return nil
				}
				fmt.Fprintf(s.stdout, "%s written, %d packages\n", name, len(l.Packages))
				return nil
			})
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().BoolVar(&update, "update", false, "move the lock on to what the archive has now")
	return cmd
}

func fetchCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fetch RECIPE",
		Short: "Bring all that a recipe's lock names into the store",
		Long: `fetch brings the packages of the image, the initrd and the tools, and the recipe's
container images, into the store, so that ` + "`applbuild image --offline`" + ` works afterwards.`,
		Args: exactly(1, "one recipe"),
		RunE: func(cmd *cobra.Command, args []string) error {
			recipe, err := s.recipe(args[0])
			if err != nil {
				return err
			}
			return s.withBuilder(cmd.Context(), func(b *builder.Builder, _ *progress) error {
				return b.Fetch(cmd.Context(), recipe)
			})
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().BoolVar(&s.locked, "locked", false, "refuse a lock that is missing or does not fit the recipe")
	return cmd
}

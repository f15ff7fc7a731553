package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder"
)

func inspectCommand(s *settings) *cobra.Command {
	var dir string
	var asJSON, packages bool
	cmd := &cobra.Command{
		Use:   "inspect RECIPE|IMAGE.raw",
		Short: "Show what is on a disk",
		Long: `inspect shows a disk's partitions, its root hash, the sections of its unified
kernel images, its container images and, from the manifest beside it, its packages.
Nothing is mounted.`,
		Args: exactly(1, "one recipe or disk"),
		RunE: func(cmd *cobra.Command, args []string) error {
			image, _, err := s.diskOf(args[0], dir)
			if err != nil {
				return err
			}
			in, err := builder.Inspect(cmd.Context(), image)
			if err != nil {
				return err
			}
			if in.HasContainers() {
				err := s.withBuilder(cmd.Context(), func(b *builder.Builder, _ *progress) (err error) {
					in.Containers, err = b.Containers(cmd.Context(), image)
					return err
				})
				if cmd.Context().Err() != nil {
					return err
				}
				if err != nil {
					in.Problems = append(in.Problems, "its container images: "+err.Error())
				}
			}
			if asJSON {
				return writeJSON(s.stdout, in)
			}
			return showInspection(s.stdout, in, packages)
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().StringVarP(&dir, "output", "o", "", "folder that a recipe's disk was built into (default the recipe's output.dir, else ./out)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&packages, "packages", false, "list every package")
	return cmd
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func showInspection(w io.Writer, in *builder.Inspection, packages bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\tdisk %s\n\n", in.Image, byteText(in.Size), in.DiskUUID)
	fmt.Fprintln(t, "#\ttype\tlabel\toffset\tsize\tcontents\tuuid")
	for _, p := range in.Partitions {
		contents := p.Contents
		if p.ReadOnly {
			contents += " (read-only)"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Number, p.Type, p.Label, byteText(p.Offset), byteText(p.Size), contents, p.UUID)
	}
	if in.RootHash != "" {
		fmt.Fprintf(t, "\nroot hash\t%s\n", in.RootHash)
	}
	for _, k := range in.Kernels {
		fmt.Fprintf(t, "\n%s\t%s\tLinux %s\n", k.Path, byteText(k.Size), k.Uname)
		fmt.Fprintf(t, "cmdline\t%s\n", k.Cmdline)
		for _, section := range k.Sections {
			fmt.Fprintf(t, "%s\t%s\t%s\n", section.Name, byteText(section.Size), section.SHA256)
		}
	}
	if in.Manifest != nil {
		fmt.Fprintf(t, "\n%s %s\t%s %s %s\t%d packages\n", in.Manifest.Name, in.Manifest.Version, in.Manifest.Distribution, in.Manifest.Release, in.Manifest.Architecture, len(in.Manifest.Packages))
		if packages {
			for _, p := range in.Manifest.Packages {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, p.Version, p.Architecture, byteText(p.InstalledSize))
			}
		}
	}
	if len(in.Containers) > 0 {
		fmt.Fprintln(t)
		if err := t.Flush(); err != nil {
			return err
		}
		if err := showContainers(w, in.Containers); err != nil {
			return err
		}
	}
	for _, problem := range in.Problems {
		fmt.Fprintf(t, "\nproblem\t%s\n", problem)
	}
	return t.Flush()
}

func verifyCommand(s *settings) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify RECIPE|IMAGE.raw",
		Short: "Check every block of a disk",
		Long: `verify checks a disk's partition table in both places, every block of its root
partition and hash tree against the root hash in its unified kernel image, and the
digests in the SHA256SUMS beside it. It says which block of which partition is wrong.`,
		Args: exactly(1, "one recipe or disk"),
		RunE: func(cmd *cobra.Command, args []string) error {
			image, _, err := s.diskOf(args[0], dir)
			if err != nil {
				return err
			}
			v, err := builder.Verify(cmd.Context(), image)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				if err := writeJSON(s.stdout, v); err != nil {
					return err
				}
			case !s.quiet:
				for _, checked := range v.Checked {
					fmt.Fprintf(s.stdout, "checked  %s\n", checked)
				}
				for _, problem := range v.Problems {
					fmt.Fprintf(s.stdout, "WRONG    %s\n", problem)
				}
			}
			return v.Err()
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().StringVarP(&dir, "output", "o", "", "folder that a recipe's disk was built into (default the recipe's output.dir, else ./out)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

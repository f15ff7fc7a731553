package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/manifest"
)

func containersCommand(s *settings) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "containers RECIPE|IMAGE.raw",
		Short: "List the container images on a disk",
		Long: `containers lists the container images in a disk's root file system: their names,
digests, platforms and layers. Nothing is mounted: the program that belongs to the
file system reads it in a sandbox, and comes out of the store.`,
		Args: exactly(1, "one recipe or disk"),
		RunE: func(cmd *cobra.Command, args []string) error {
			image, _, err := s.diskOf(args[0], dir)
			if err != nil {
				return err
			}
			return s.withBuilder(cmd.Context(), func(b *builder.Builder, _ *progress) error {
				list, err := b.Containers(cmd.Context(), image)
				if err != nil {
					return err
				}
				if asJSON {
					if list == nil {
						list = []manifest.Container{}
					}
					return writeJSON(s.stdout, list)
				}
				return showContainers(s.stdout, list)
			})
		},
	}
	s.recipeFlags(cmd.Flags())
	cmd.Flags().StringVarP(&dir, "output", "o", "", "folder that a recipe's disk was built into (default the recipe's output.dir, else ./out)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with layers and labels")
	return cmd
}

func showContainers(w io.Writer, list []manifest.Container) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(list) == 0 {
		fmt.Fprintln(t, "no container images")
		return t.Flush()
	}
	fmt.Fprintln(t, "image\tplatform\truntime\tlayers\tcompressed\tfrom\tsigned by\tdigest")
	for _, c := range list {
		var size int64
		for _, l := range c.Layers {
			size += l.Size
		}
		signed := "-"
		if len(c.SignedBy) > 0 {
			signed = strings.Join(c.SignedBy, " ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", strings.Join(c.Names, " "), c.Platform, c.Runtime, len(c.Layers), byteText(size), c.Source, signed, c.Digest)
	}
	return t.Flush()
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/recipes"
)

func schemaCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of recipes",
		Long: `schema prints the JSON Schema of recipes. An editor with a YAML language server
completes and checks recipes that begin with the line

    # yaml-language-server: $schema=recipe.schema.json`,
		Args: exactly(0, "nothing"),
		RunE: func(*cobra.Command, []string) error {
			schema, err := recipes.Schema()
			if err != nil {
				return err
			}
			_, err = s.stdout.Write(schema)
			return err
		},
	}
}

func initCommand(s *settings) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [RECIPE]",
		Short: "Write a commented recipe to start from",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "recipe.yml"
			if len(args) == 1 {
				name = args[0]
			}
			mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(name, mode, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s is there already: name another file, or use --force to replace it", name)
			}
			if err != nil {
				return err
			}
			_, err = f.Write(recipes.Starter())
			if closeErr := f.Close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return err
			}
			if !s.quiet {
				fmt.Fprintf(s.stdout, "%s written: edit it, then run `applbuild image %s`\n", name, name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return cmd
}

func versionCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0, "nothing"),
		RunE: func(*cobra.Command, []string) error {
			version, revision := "devel", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				if info.Main.Version != "" && info.Main.Version != "(devel)" {
					version = info.Main.Version
				}
				for _, setting := range info.Settings {
					if setting.Key == "vcs.revision" {
						revision = " " + setting.Value
					}
				}
			}
			fmt.Fprintf(s.stdout, "applbuild %s%s (%s, %s/%s)\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

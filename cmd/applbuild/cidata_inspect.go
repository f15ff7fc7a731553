package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/cidata"
)

func cidataInspectCommand(s *settings) *cobra.Command {
	var asJSON bool
	var cat string
	cmd := &cobra.Command{
		Use:   "inspect SEED",
		Short: "Show what is in a seed, whoever made it",
		Long: `inspect shows the files, instance-id, host name and users of a NoCloud seed and
what is wrong with it. SEED is an ISO, a vfat image, a folder, or a tar of one,
gzip'ed or not. Nothing is mounted.

Contents are not shown: of keys the fingerprint, of a password whether it is a
hash or plain, of other secrets the place. --cat prints a file as it is.

The exit code is 1 where cloud-init would refuse or pass over something.`,
		Args: exactly(1, "one seed"),
		RunE: func(_ *cobra.Command, args []string) error {
			seed, err := readSeed(args[0])
			if err != nil {
				return err
			}
			if cat != "" {
				data, ok := seed.File(cat)
				if !ok {
					return fmt.Errorf("%s has no file %s: see `applbuild cidata inspect %s`", args[0], cat, args[0])
				}
				_, err := s.stdout.Write(data)
				return err
			}
			in := seed.Inspect()
			if asJSON {
				err = writeJSON(s.stdout, in)
			} else {
				err = showSeed(s.stdout, args[0], in)
			}
			if err == nil && len(in.Problems) > 0 {
				err = fmt.Errorf("%s has %s: make it anew", args[0], plural(len(in.Problems), "problem"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&cat, "cat", "", "print this file of the seed, with all that is in it")
	return cmd
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// readSeed reads a seed from a file, a block device or a folder.
func readSeed(name string) (*cidata.Seed, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: name an ISO, a vfat image, a folder or a tar", name)
	}
	if err != nil {
		return nil, err
	}
	// Opening a pipe would wait for someone who writes into it, and what comes out has no end to look for.
	if mode := info.Mode(); !mode.IsDir() && !mode.IsRegular() && mode.Type() != fs.ModeDevice {
		return nil, fmt.Errorf("%s is neither a file nor a folder nor a block device: name an ISO, a vfat image, a folder or a tar", name)
	}
	var seed *cidata.Seed
	if info.IsDir() {
		seed, err = cidata.ReadDir(name)
	} else {
		var f *os.File
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
		// A block device has its size at its end only.
		var size int64
		if size, err = f.Seek(0, io.SeekEnd); err == nil {
			seed, err = cidata.Read(f, size)
		}
	}
	if errors.Is(err, cidata.ErrNotSeed) && !info.IsDir() && slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(name)) {
		return nil, fmt.Errorf("%s: %w: look at what a seed file makes with `applbuild cidata %s --print`", name, err, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return seed, nil
}

func showSeed(w io.Writer, name string, in *cidata.Inspection) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = printable(c)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	label := ""
	if in.Label != "" {
		label = ", label " + in.Label
	}
	row(name, in.Format+label+", "+plural(len(in.Files), "file")+", "+byteText(in.Size))
	row("instance-id", in.InstanceID)
	row("host name", in.Hostname)
	fmt.Fprintln(t)
	for _, f := range in.Files {
		row(f.Path, byteText(int64(f.Size)), f.SHA256)
	}
	for _, p := range in.Parts {
		if p.Type == "" {
			p.Type = "unknown"
		}
		row(p.File, byteText(int64(p.Size)), strings.TrimSpace(p.Type+" "+p.Name))
	}
	for _, u := range in.Users {
		var has []string
		if len(u.Groups) > 0 {
			has = append(has, "groups "+strings.Join(u.Groups, ","))
		}
		if u.Sudo {
			has = append(has, "sudo")
		}
		if u.Password != "" {
			has = append(has, "password ("+u.Password+")")
		}
		row("user "+u.Name, strings.Join(append(has, u.Keys...), "; "))
	}
	for _, list := range []struct {
		what     string
		findings []cidata.Finding
	}{{"secret", in.Secrets}, {"warning", in.Warnings}, {"problem", in.Problems}} {
		for _, f := range list.findings {
			row(list.what, f.String())
		}
	}
	return t.Flush()
}

// printable keeps what a seed holds from breaking the line or steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

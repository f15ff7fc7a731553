package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/applbuild/applbuild/cidata"
)

// cidataFlags are those of `applbuild cidata`.
type cidataFlags struct {
	load   cidata.LoadOptions
	output string
	format string
	dir    string
	print  bool
	force  bool
}

func cidataCommand(s *settings) *cobra.Command {
	var f cidataFlags
	cmd := &cobra.Command{
		Use:   "cidata [SEED.yml]",
		Short: "Make a cloud-init seed, which tells a machine who it is",
		Long: `cidata makes a seed for cloud-init's NoCloud datasource, from a seed file, from
flags, or from both: flags replace the seed file's values, lists are appended.

    applbuild cidata --hostname web1 --ssh-key ~/.ssh/id_ed25519.pub -o seed.iso
    applbuild cidata SEED.yml -o seed.iso
    applbuild cidata inspect seed.iso

Everything is checked before it is written: cloud-config and network-config
against cloud-init's own schemas, keys, names, and that no private key and no
plain password is in the seed. The same input gives the same bytes; the dates in
it are SOURCE_DATE_EPOCH, else 1980-01-01.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) <= 1 {
				return nil
			}
			return usageError{fmt.Errorf("%s takes one seed file or none, not %d arguments: see `%s --help`", cmd.CommandPath(), len(args), cmd.CommandPath())}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return s.makeSeed(name, f)
		},
	}
	f.flags(cmd.Flags())
	cmd.AddCommand(cidataInspectCommand(s), cidataPackageCommand(s), cidataRestoreCommand(s))
	return cmd
}

func (f *cidataFlags) flags(flags *pflag.FlagSet) {
	set := &f.load.Settings
	flags.StringVarP(&f.output, "output", "o", "", "file to write")
	flags.StringVar(&f.format, "format", "iso", "file system of that file: iso or vfat")
	flags.StringVar(&f.dir, "dir", "", "folder to write the seed's files into, for NoCloud's own folder")
	flags.BoolVar(&f.print, "print", false, "print what would be written")
	flags.BoolVar(&f.force, "force", false, "replace what is there")
	flags.StringVar(&set.Hostname, "hostname", "", "host name")
	flags.StringVar(&set.InstanceID, "instance-id", "", "instance-id (default derived from the contents, so that a changed seed is applied)")
	flags.StringArrayVar(&set.SSHKeyFiles, "ssh-key", nil, "file with SSH public keys for --user, else for the image's default user; repeatable")
	flags.StringVar(&set.User, "user", "", "make this user, who may use sudo without a password")
	flags.StringVar(&set.PasswordHash, "password-hash", "", "password of --user as a hash of crypt(5), as `openssl passwd -6` makes it")
	flags.BoolVar(&set.GrowRoot, "grow-root", false, "grow the root partition and its file system to the disk's end")
	flags.StringVar(&set.Network, "network", "", "file with netplan's YAML, version 2")
	flags.StringArrayVar(&set.UserData, "user-data", nil, "file of user-data; several become a multi-part message")
	flags.StringVar(&set.MetaData, "meta-data", "", "file of meta-data; instance-id and host name are added where they are missing")
	flags.StringVar(&set.NetworkConfig, "network-config", "", "file of network-config, version 1 or 2, kept as it is")
	flags.StringArrayVar(&set.VendorData, "vendor-data", nil, "file of vendor-data; repeatable like --user-data")
	flags.StringVar(&set.Vagrant, "vagrant", "", "make a user vagrant, who may use sudo without a password, with the public keys of this file")
	flags.StringVar(&f.load.For, "for", "", "also check against a cloud's limits: ec2")
	flags.BoolVar(&f.load.AllowSecrets, "allow-secrets", false, "let private keys and plain passwords into the seed; the file is readable by its owner only")
}

// check refuses flags that don't go together.
func (f *cidataFlags) check(name string) error {
	set := f.load.Settings
	empty := name == "" && set.InstanceID == "" && set.Hostname == "" && set.User == "" && len(set.SSHKeyFiles) == 0 && !set.GrowRoot && set.Network == "" &&
		len(set.UserData) == 0 && set.MetaData == "" && set.NetworkConfig == "" && len(set.VendorData) == 0 && set.Vagrant == "" && set.PasswordHash == ""
	switch {
	case empty:
		return usageError{errors.New("the seed says nothing: name a seed file, or use flags such as --hostname and --ssh-key; see `applbuild cidata --help`")}
	case f.format != "iso" && f.format != "vfat":
		return usageError{fmt.Errorf("--format %s: unknown file system: use iso or vfat", f.format)}
	case f.output == "" && f.dir == "" && !f.print:
		return usageError{errors.New("nowhere to write the seed to: add -o FILE or --dir FOLDER, or look at it with --print")}
	}
	return nil
}

func (s *settings) makeSeed(name string, f cidataFlags) error {
	if err := f.check(name); err != nil {
		return err
	}
	var err error
	if f.load.Time, err = sourceDateEpoch(); err != nil {
		return err
	}
	seed, err := cidata.Load(name, f.load)
	if seed != nil {
		for _, w := range seed.Warnings() {
			fmt.Fprintf(s.stderr, "applbuild: warning: %s\n", w)
		}
	}
	if err != nil {
		return err
	}
	if f.print {
		if err := printSeed(s.stdout, seed); err != nil {
			return err
		}
	}
	if f.load.For == cidata.ForEC2 && !s.quiet {
		sizes, err := seed.EC2()
		if err != nil {
			return err
		}
		fmt.Fprintf(s.stderr, "user-data for EC2: %d bytes, %d gzip'ed, %d in base64; the limit is %d\n", sizes.Raw, sizes.Gzip, sizes.Base64, cidata.MaxEC2)
	}
	return s.writeSeed(seed, f)
}

// writeSeed writes the file and the folder, and says so.
func (s *settings) writeSeed(seed *cidata.Seed, f cidataFlags) error {
	to := place{f.output, f.dir, f.force}
	write := seed.WriteISO
	if f.format == "vfat" {
		write = seed.WriteVFAT
	}
	if err := to.write(seed, newFileMode(f.load.AllowSecrets), write); err != nil {
		return err
	}
	if !s.quiet && !f.print {
		s.sayWritten(to, seed)
	}
	return nil
}

// sayWritten says where a seed was written to.
func (s *settings) sayWritten(to place, seed *cidata.Seed) {
	for _, name := range to.written() {
		fmt.Fprintf(s.stdout, "%s written: %s, instance-id %s\n", name, plural(len(seed.Files()), "file"), printable(seed.InstanceID()))
	}
}

// printSeed shows the files as they would be written.
func printSeed(w io.Writer, seed *cidata.Seed) error {
	for _, f := range seed.Files() {
		if _, err := fmt.Fprintf(w, "==> %s, %d bytes <==\n", f.Path, len(f.Data)); err != nil {
			return err
		}
		text := "(not text)\n"
		if utf8.Valid(f.Data) && !strings.ContainsFunc(string(f.Data), func(r rune) bool {
			return r < 0x20 && !strings.ContainsRune("\n\t\r", r) || r == 0x7f || r >= 0x80 && r < 0xa0
		}) {
			text = string(f.Data)
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

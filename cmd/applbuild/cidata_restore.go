package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/cidata/paper"
	"github.com/applbuild/applbuild/cidata/seal"
)

// restoreFlags are those of `applbuild cidata restore`.
type restoreFlags struct {
	output, dir string
	identities  []string
	secretKeys  []string
	passphrase  string
	force       bool
}

func cidataRestoreCommand(s *settings) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore CODES.txt…|ARCHIVE",
		Short: "Restore a seed from the codes on paper, or from an archive",
		Long: `restore gives back the ISO of ` + "`applbuild cidata package`" + `, bit for bit, from the text
that a scanner makes of the codes on its paper, or from its encrypted archive.

    zbarimg -q --raw -Sdisable -Sqrcode.enable *.png >codes.txt
    applbuild cidata restore codes.txt -o seed.iso
    applbuild cidata restore web1.tar.gz.age --identity key.txt -o seed.iso

The codes may be in one or several files (- is standard input), in any order and
several times. Those that are missing or damaged are named.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return usageError{fmt.Errorf("%s takes files with the text of codes, or an archive: see `%s --help`", cmd.CommandPath(), cmd.CommandPath())}
		},
		RunE: func(_ *cobra.Command, args []string) error { return s.restoreSeed(args, f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "", "ISO to write")
	flags.StringVar(&f.dir, "dir", "", "folder to write the seed's files into")
	flags.StringArrayVar(&f.identities, "identity", nil, "file with age's secret keys; repeatable")
	flags.StringArrayVar(&f.secretKeys, "openpgp-secret-key", nil, "file with OpenPGP secret keys, as gpg --export-secret-keys writes it; repeatable")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "file with the passphrase of the secret key")
	flags.BoolVar(&f.force, "force", false, "replace what is there")
	return cmd
}

func (s *settings) restoreSeed(names []string, f restoreFlags) error {
	if f.output == "" && f.dir == "" {
		return usageError{errors.New("nowhere to write the seed to: add -o FILE or --dir FOLDER")}
	}
	archive, err := readArchive(names)
	if err != nil {
		return err
	}
	if archive, err = f.open(archive); err != nil {
		return err
	}
	bundle, err := seal.Unpack(archive)
	if err != nil {
		return err
	}
	var files []cidata.File
	for _, file := range bundle.Files {
		files = append(files, cidata.File(file))
	}
	seed := cidata.FromFiles(files, bundle.Time)
	return s.writeRestored(seed, bundle.ISOSHA256, f)
}

// readArchive reads the archive, or puts it together from codes.
func readArchive(names []string) ([]byte, error) {
	var scans []paper.Scan
	for _, name := range names {
		data, err := readBounded(name, seal.MaxArchive)
		if err != nil {
			return nil, err
		}
		if seal.FormOf(data) != seal.Unknown {
			if len(names) > 1 {
				return nil, usageError{fmt.Errorf("%s is an archive: restore it alone", name)}
			}
			return data, nil
		}
		scans = append(scans, paper.Scan{Name: printable(name), Text: data})
	}
	return paper.Join(scans...)
}

// open decrypts an archive, where it is encrypted.
func (f *restoreFlags) open(archive []byte) ([]byte, error) {
	var passphrase []byte
	if f.passphrase != "" {
		const longest = 4096
		data, err := readBounded(f.passphrase, longest)
		if err != nil {
			return nil, err
		}
		line, _, _ := strings.Cut(string(data), "\n")
		passphrase = []byte(strings.TrimSuffix(line, "\r"))
	}
	var err error
	switch seal.FormOf(archive) {
	case seal.Plain:
		return archive, nil
	case seal.Age:
		archive, err = f.openAge(archive, passphrase)
	case seal.OpenPGP:
		archive, err = f.openOpenPGP(archive, passphrase)
	default:
		return nil, errors.New("the codes hold no archive of a seed: they were made by another program")
	}
	if errors.Is(err, seal.ErrPassphrase) {
		return nil, fmt.Errorf("%w: name the file with it by --passphrase-file", err)
	}
	return archive, err
}

func (f *restoreFlags) openAge(archive, passphrase []byte) ([]byte, error) {
	if len(f.identities) == 0 {
		return nil, usageError{errors.New("the archive is encrypted with age: add --identity FILE")}
	}
	var all []age.Identity
	for _, name := range f.identities {
		some, err := parseFile(name, func(data []byte) ([]age.Identity, error) { return seal.ParseAgeIdentities(data, passphrase) })
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	data, err := seal.DecryptAge(archive, all)
	if errors.Is(err, seal.ErrNoKey) {
		return nil, fmt.Errorf("%w: name that of a recipient by --identity", err)
	}
	return data, err
}

func (f *restoreFlags) openOpenPGP(archive, passphrase []byte) ([]byte, error) {
	if len(f.secretKeys) == 0 {
		return nil, usageError{errors.New("the archive is encrypted with OpenPGP: add --openpgp-secret-key FILE, or decrypt it with gpg and restore what that gives")}
	}
	var all openpgp.EntityList
	for _, name := range f.secretKeys {
		some, err := parseFile(name, seal.ParseOpenPGPKeys)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	data, err := seal.DecryptOpenPGP(archive, all, passphrase, time.Now())
	if errors.Is(err, seal.ErrNoKey) {
		return nil, fmt.Errorf("%w: name that of a recipient by --openpgp-secret-key", err)
	}
	return data, err
}

// writeRestored writes the ISO and the folder, and says whether the ISO is the one that was packaged.
func (s *settings) writeRestored(seed *cidata.Seed, want string, f restoreFlags) error {
	var iso bytes.Buffer
	if f.output != "" {
		if err := seed.WriteISO(&iso); err != nil {
			return err
		}
	}
	to := place{f.output, f.dir, f.force}
	err := to.write(seed, newFileMode(len(seed.Inspect().Secrets) > 0), func(w io.Writer) error {
		_, err := w.Write(iso.Bytes())
		return err
	})
	if err != nil {
		return err
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(iso.Bytes())); f.output != "" && want != "" && sum != want {
		fmt.Fprintf(s.stderr, "applbuild: warning: the seed's files are restored bit for bit, but the ISO around them is not: another version of applbuild wrote the one with SHA-256 %s\n", want)
	}
	if !s.quiet {
		s.sayWritten(to, seed)
	}
	return nil
}

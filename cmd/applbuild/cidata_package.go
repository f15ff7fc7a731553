package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/cidata/paper"
	"github.com/applbuild/applbuild/cidata/seal"
)

// packageFlags are those of `applbuild cidata package`.
type packageFlags struct {
	dir, name      string
	recipients     []string
	recipientFiles []string
	openpgpKeys    []string
	encryptedPaper bool
	noPaper        bool
	allowSecrets   bool
	force          bool
}

func cidataPackageCommand(s *settings) *cobra.Command {
	var f packageFlags
	cmd := &cobra.Command{
		Use:   "package SEED --output FOLDER",
		Short: "Make a seed's ISO, encrypted archive and paper to file",
		Long: `package makes of one seed - a seed file (.yml), an ISO, a vfat image or a folder:

    NAME.iso           the seed
    NAME.tar.gz.age    its files, encrypted for recipients of age
    NAME.tar.gz.gpg    its files, encrypted for OpenPGP keys
    NAME.pdf           its text, and QR codes that restore it bit for bit

The paper holds the seed in clear, unless --encrypted-paper puts the encrypted
archive into its codes and prints nothing else but NAME. An archive is written for
recipients only, never in clear. The date on paper is SOURCE_DATE_EPOCH, or none.

` + "`applbuild cidata restore`" + ` gives the ISO back; docs/paper.md tells how to
without applbuild.`,
		Args: exactly(1, "one seed"),
		RunE: func(cmd *cobra.Command, args []string) error { return s.packageSeed(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.dir, "output", "o", "", "folder to write to")
	flags.StringVar(&f.name, "name", "", "name of the files (default the seed's host name, else the name of SEED)")
	flags.StringArrayVar(&f.recipients, "recipient", nil, "encrypt for this recipient of age, age1…; repeatable")
	flags.StringArrayVar(&f.recipientFiles, "recipient-file", nil, "encrypt for the recipients of age in this file, one a line; repeatable")
	flags.StringArrayVar(&f.openpgpKeys, "openpgp-key", nil, "encrypt for the OpenPGP public keys in this file; repeatable")
	flags.BoolVar(&f.encryptedPaper, "encrypted-paper", false, "print codes of the encrypted archive, and nothing of the seed but its name")
	flags.BoolVar(&f.noPaper, "no-paper", false, "make no PDF")
	flags.BoolVar(&f.allowSecrets, "allow-secrets", false, "let private keys and plain passwords into the seed; its files are readable by their owner only")
	flags.BoolVar(&f.force, "force", false, "replace what is there")
	return cmd
}

// recipients are those a seed is encrypted for.
type recipients struct {
	age     []age.Recipient
	openpgp openpgp.EntityList
}

// check refuses flags that don't go together, and reads the keys.
func (f *packageFlags) check() (r recipients, err error) {
	if f.dir == "" {
		return r, usageError{errors.New("nowhere to write to: add --output FOLDER")}
	}
	for i, text := range f.recipients {
		some, err := seal.ParseAgeRecipients([]byte(text))
		if err != nil {
			// The value isn't shown: a secret key is easily taken for the public one.
			return r, usageError{fmt.Errorf("--recipient, number %d: %w", i+1, err)}
		}
		r.age = append(r.age, some...)
	}
	for _, name := range f.recipientFiles {
		some, err := parseFile(name, seal.ParseAgeRecipients)
		if err != nil {
			return r, err
		}
		r.age = append(r.age, some...)
	}
	for _, name := range f.openpgpKeys {
		some, err := parseFile(name, seal.ParseOpenPGPKeys)
		if err != nil {
			return r, err
		}
		r.openpgp = append(r.openpgp, some...)
	}
	switch {
	case f.encryptedPaper && f.noPaper:
		return r, usageError{errors.New("--encrypted-paper and --no-paper contradict each other: leave one out")}
	case f.encryptedPaper && len(r.age) == 0 && len(r.openpgp) == 0:
		return r, usageError{errors.New("--encrypted-paper is for nobody: add --recipient, --recipient-file or --openpgp-key")}
	case f.encryptedPaper && len(r.age) > 0 && len(r.openpgp) > 0:
		return r, usageError{errors.New("--encrypted-paper holds one archive: name recipients of age or OpenPGP keys, not both")}
	}
	return r, nil
}

// maxKeys bounds a file with keys, in bytes.
const maxKeys = 16 << 20

// parseFile parses a file of keys.
func parseFile[T any](name string, parse func([]byte) (T, error)) (keys T, err error) {
	data, err := readBounded(name, maxKeys)
	if err != nil {
		return keys, err
	}
	if keys, err = parse(data); err != nil {
		return keys, fmt.Errorf("%s: %w", name, err)
	}
	return keys, nil
}

// readBounded reads a file, - for standard input, of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %s, which nothing of the kind is", byteText(limit))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// artifact is a file of a package, in memory until all are there.
type artifact struct {
	name   string
	opener string // program that decrypts it; empty where it is readable by all
	data   []byte
}

func (s *settings) packageSeed(ctx context.Context, source string, f packageFlags) error {
	to, err := f.check()
	if err != nil {
		return err
	}
	epoch, err := sourceDateEpoch()
	if err != nil {
		return err
	}
	seed, err := s.seedToPackage(source, f.allowSecrets, epoch)
	if err != nil {
		return err
	}
	in := seed.Inspect()
	if f.name == "" {
		f.name = in.Hostname
	}
	if f.name == "" {
		f.name = strings.TrimSuffix(filepath.Base(filepath.Clean(source)), filepath.Ext(source))
	}
	artifacts, err := f.artifacts(seed, in, to, epoch)
	if err != nil {
		return err
	}
	files, err := f.commit(ctx, artifacts, newFileMode(f.allowSecrets || len(in.Secrets) > 0))
	if err != nil || s.quiet {
		return err
	}
	t := tabwriter.NewWriter(s.stdout, 0, 8, 2, ' ', 0)
	for _, file := range files {
		fmt.Fprintf(t, "%s\t%s\t%s\n", filepath.Join(f.dir, file.Name), byteText(file.Size), file.SHA256)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(to.age) == 0 && len(to.openpgp) == 0 {
		fmt.Fprintln(s.stderr, "no archive was written: it is made for --recipient, --recipient-file or --openpgp-key only")
	}
	return nil
}

// seedToPackage loads a seed file or reads a seed that is there.
func (s *settings) seedToPackage(source string, allowSecrets bool, epoch time.Time) (*cidata.Seed, error) {
	switch filepath.Ext(source) {
	case ".yml", ".yaml":
		seed, err := cidata.Load(source, cidata.LoadOptions{AllowSecrets: allowSecrets, Time: epoch})
		if seed != nil {
			for _, w := range seed.Warnings() {
				fmt.Fprintf(s.stderr, "applbuild: warning: %s\n", w)
			}
		}
		return seed, err
	}
	seed, err := readSeed(source)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(source); err == nil && info.IsDir() && !epoch.IsZero() {
		seed = cidata.FromFiles(seed.Files(), epoch)
	}
	in := seed.Inspect()
	if len(in.Secrets) > 0 && !allowSecrets {
		return nil, fmt.Errorf("%s: %s: keep it out of the seed, or use --allow-secrets", source, in.Secrets[0])
	}
	if n := len(in.Problems); n > 0 {
		fmt.Fprintf(s.stderr, "applbuild: warning: %s has %s: see `applbuild cidata inspect %s`\n", source, plural(n, "problem"), source)
	}
	return seed, nil
}

// artifacts makes all files of a package.
func (f *packageFlags) artifacts(seed *cidata.Seed, in *cidata.Inspection, to recipients, epoch time.Time) ([]artifact, error) {
	var iso bytes.Buffer
	if err := seed.WriteISO(&iso); err != nil {
		return nil, err
	}
	all := []artifact{{name: f.name + ".iso", data: iso.Bytes()}}
	isoSum := fmt.Sprintf("%x", sha256.Sum256(iso.Bytes()))
	bundle := seal.Bundle{Time: seed.Time(), ISOSHA256: isoSum}
	doc := paper.Document{Name: f.name, Host: in.Hostname, InstanceID: in.InstanceID, ISOSHA256: isoSum, Date: epoch}
	for _, file := range seed.Files() {
		bundle.Files = append(bundle.Files, seal.File(file))
		doc.Files = append(doc.Files, paper.File(file))
	}
	archive, err := bundle.Pack()
	if err != nil {
		return nil, err
	}
	doc.Archive = archive
	sealed, err := to.seal(f.name, archive)
	if err != nil {
		return nil, err
	}
	all = append(all, sealed...)
	if f.encryptedPaper {
		doc.Encrypted, doc.Archive = sealed[0].opener, sealed[0].data
	}
	if f.noPaper {
		return all, nil
	}
	var pdf bytes.Buffer
	var size *paper.SizeError
	if err := paper.Write(&pdf, doc); errors.As(err, &size) {
		return nil, fmt.Errorf("%w, or make none with --no-paper", err)
	} else if err != nil {
		return nil, err
	}
	return append(all, artifact{f.name + ".pdf", doc.Encrypted, pdf.Bytes()}), nil
}

// seal encrypts an archive, once for those who use age and once for those who use OpenPGP, where there are any.
func (r recipients) seal(name string, archive []byte) ([]artifact, error) {
	var all []artifact
	if len(r.age) > 0 {
		data, err := seal.EncryptAge(archive, r.age)
		if err != nil {
			return nil, err
		}
		all = append(all, artifact{name: name + ".tar.gz.age", opener: "age", data: data})
	}
	if len(r.openpgp) > 0 {
		data, err := seal.EncryptOpenPGP(archive, r.openpgp, rand.Reader, time.Now())
		if err != nil {
			return nil, err
		}
		all = append(all, artifact{name: name + ".tar.gz.gpg", opener: "gpg", data: data})
	}
	return all, nil
}

// commit writes all files or none.
func (f *packageFlags) commit(ctx context.Context, artifacts []artifact, mode os.FileMode) ([]output.File, error) {
	var names []string
	for _, a := range artifacts {
		names = append(names, a.name)
	}
	var exists *output.ExistsError
	if err := output.Check(f.dir, names); err != nil && !(f.force && errors.As(err, &exists)) {
		return nil, err
	}
	set, err := output.New(f.dir, f.force)
	if err != nil {
		return nil, err
	}
	defer set.Abort()
	for _, a := range artifacts {
		file, err := set.Create(a.name)
		if err != nil {
			return nil, fmt.Errorf("%w, or give the files another name with --name", err)
		}
		_, err = file.Write(a.data)
		if a.opener == "" && err == nil {
			err = file.Chmod(mode)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
	return set.Commit(ctx)
}

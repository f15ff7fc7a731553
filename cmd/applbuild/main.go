// Command applbuild turns one recipe.yml into a bootable GPT disk with a
// read-only, dm-verity protected root.
//
// It is a thin layer over package builder: it reads flags, the environment and
// the clock, shows progress, prints results and errors, and exits.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/rootfs"
	"github.com/applbuild/applbuild/rootfs/resolve"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

func main() {
	sandbox.Main(builder.SandboxFuncs())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes: what a script can tell apart.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNeverUp     = 2 // a machine under test: as for usage, there was nothing to judge
	exitInterrupted = 130
)

func run(ctx context.Context, args []string, stdout, stderr *os.File) int {
	syscall.Umask(0o022)
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "applbuild: interrupted; nothing was written")
		return exitInterrupted
	}
	report(stderr, err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	if errors.Is(err, errNeverUp) {
		return exitNeverUp
	}
	return exitFailure
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints an error: one line that says what, where and what to do, and
// below it, indented, how packages hang together or what a failed program
// printed.
func report(w io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintf(w, "applbuild: %s\n", line)
	}
	var more string
	var packages *resolve.UnsatisfiableError
	var script *rootfs.ScriptError
	switch {
	case errors.As(err, &packages):
		more = packages.Explain()
	case errors.As(err, &script):
		more = script.Detail()
	}
	if more = strings.TrimRight(more, "\n"); more == "" {
		return
	}
	for line := range strings.SplitSeq(more, "\n") {
		fmt.Fprintf(w, "    %s\n", line)
	}
}

func newRoot(stdout, stderr *os.File) *cobra.Command {
	s := &settings{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "applbuild",
		Short: "Build bootable, verity protected disks from Debian's and Ubuntu's packages",
		Long: `applbuild turns one recipe.yml into a bootable GPT disk: an Ubuntu or Debian
appliance with a read-only dm-verity root and a unified kernel image.

    applbuild init recipe.yml      write a recipe to start from
    applbuild image recipe.yml     build its disk
    applbuild boot recipe.yml      boot it in QEMU`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())}
	})
	s.globalFlags(root.PersistentFlags())
	root.AddCommand(
		imageCommand(s), lockCommand(s), fetchCommand(s), bootCommand(s), testCommand(s),
		inspectCommand(s), containersCommand(s), verifyCommand(s), schemaCommand(s), initCommand(s), versionCommand(s), cidataCommand(s),
	)
	return root
}

// noVerb refuses a first word that is no verb, in one line with the verbs that
// are like it.
func noVerb(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		meant = "did you mean " + strings.Join(near, " or ") + "? "
	}
	return usageError{fmt.Errorf("unknown verb %s: %ssee `%s --help`", args[0], meant, root.CommandPath())}
}

// exactly refuses another number of arguments with a sentence that says what
// is wanted.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usageError{fmt.Errorf("%s takes %s, not %d arguments: see `%s --help`", cmd.CommandPath(), what, len(args), cmd.CommandPath())}
	}
}

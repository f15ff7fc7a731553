package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
	"golang.org/x/sys/unix"
)

// Tool runs programs. Run returns when the program has ended, with an error
// unless its exit status was 0, and kills it when ctx ends.
type Tool interface {
	Run(ctx context.Context, cmd Command) error
}

// Command is one run of a program.
type Command struct {
	Argv   []string
	Env    []string  // NAME=value; the whole environment but PATH and HOME, which are the Tool's
	Stdin  io.Reader // nil is empty; an *os.File is best passed on as it is
	Stdout io.Writer // nil discards
	Stderr io.Writer // nil discards
	Dir    string    // host directory that the program has as its working directory, read-write
}

// Tree is a file system's contents. WriteTar writes them as a tar archive:
// PAX headers with extended attributes (SCHILY.xattr.), names without leading
// "./", parents before children, hard links behind their targets. It is called
// once or twice for an image and must write the same both times.
type Tree interface {
	WriteTar(ctx context.Context, w io.Writer) error
}

// TreeTool is a Tool that can also run a program on a tree as a directory, for
// tools that read nothing else: it extracts the tree into a fresh directory
// with owners, devices and extended attributes as they are in it, runs cmd
// with each "{tree}" in its arguments replaced by the directory's path, and
// removes the directory. What cmd writes into its Dir belongs to the caller.
type TreeTool interface {
	Tool
	RunOnTree(ctx context.Context, tree Tree, cmd Command) error
}

// ErrNoTree says that a tool of this version reads directories only, and that
// the Tool handed in is no TreeTool.
var ErrNoTree = errors.New("the program reads directories only and the tool cannot provide one")

// environment is what every program gets: nothing of the caller's, and no
// way to the time but the one handed in.
func environment(more ...string) []string {
	return append([]string{"LC_ALL=C", "TZ=UTC"}, more...)
}

// tailSize is how much of a program's errors is kept, in bytes.
const tailSize = 2048

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-tailSize):]...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(p), nil
}

// line returns what was kept on one line.
func (t *tail) line() string {
	return strings.Join(strings.FieldsFunc(string(t.b), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// run runs a program and puts the end of its output into the error.
func run(ctx context.Context, tool Tool, cmd Command) error {
	return explain(cmd, func(cmd Command) error { return tool.Run(ctx, cmd) })
}

// explain runs a command by do and names program and output in its error.
func explain(cmd Command, do func(Command) error) error {
	var said tail
	if cmd.Stderr == nil {
		cmd.Stderr = &said
	}
	if cmd.Stdout == nil {
		cmd.Stdout = io.Discard
	}
	err := do(cmd)
	if err == nil {
		return nil
	}
	line := said.line()
	if line == "" || strings.Contains(err.Error(), line) {
		return fmt.Errorf("%s: %w", cmd.Argv[0], err)
	}
	return fmt.Errorf("%s: %w: %s", cmd.Argv[0], err, line)
}

// help returns what a program prints about its options, which tells better
// than a version number what it can do. Old programs exit with an error. It
// runs where the image is to be.
func help(ctx context.Context, tool Tool, image string, argv ...string) (string, error) {
	dir, err := filepath.Abs(filepath.Dir(image))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = tool.Run(ctx, Command{Argv: argv, Env: environment(), Stdout: &out, Stderr: &out, Dir: dir})
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("%s: prints nothing about its options: %w", argv[0], err)
	}
	return out.String(), nil
}

// feed runs a program with a tree on its standard input.
func feed(ctx context.Context, tool Tool, tree Tree, cmd Command) error {
	pr, wrote, err := member.Pipe(ctx, tree)
	if err != nil {
		return err
	}
	cmd.Stdin = pr
	err = run(ctx, tool, cmd)
	pr.Close()
	treeErr := <-wrote
	if err == nil && errors.Is(treeErr, unix.EPIPE) {
		// The program was done at the archive's end mark; zeros follow it.
		return nil
	}
	if treeErr != nil && !errors.Is(treeErr, unix.EPIPE) {
		return fmt.Errorf("write tree to %s: %w", cmd.Argv[0], treeErr)
	}
	return err
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/boots"
	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/recipes"
)

// How tests may come out badly; the program exits with exitFailure for the first
// and exitNeverUp for the second.
var (
	errTestsFailed = errors.New("tests failed")
	errNeverUp     = errors.New("a machine did not come up")
)

type testFlags struct {
	tests, junit, console, kvm string
	jobs                       int
}

func testCommand(s *settings) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test RECIPE|IMAGE.raw...",
		Short: "Boot a disk in QEMU and run its tests",
		Long: `test builds what a recipe needs, boots a copy of its disk in QEMU and runs what the
recipe has under tests: checks inside of the machine, and steps such as a reboot or a
power cut. A disk that is there is tested with the list in a file given with --tests.
The disk itself is neither changed nor written anywhere.

One line is printed for each test. Exit status: 0 when all is well, 1 when a test
failed, 2 when a machine that was to come up did not, or for a mistake on the command
line. What each boot printed on its console is kept where something failed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s takes recipes or disks: see `%s --help`", cmd.CommandPath(), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return s.test(cmd.Context(), args, f) },
	}
	s.recipeFlags(cmd.Flags())
	flags := cmd.Flags()
	flags.StringVar(&f.tests, "tests", "", "file with the key tests, in place of the recipe's (a disk has none of its own)")
	flags.StringVar(&f.junit, "junit", "", "file to write the results to, as JUnit XML")
	flags.StringVar(&f.console, "console", "", "folder to keep all consoles in (default a new one, for failures)")
	flags.StringVar(&f.kvm, "kvm", "auto", "run on the processor itself: auto, on or off")
	flags.IntVar(&f.jobs, "jobs", 0, "machines that run side by side (default as many as processors and memory allow)")
	flags.BoolVar(&s.locked, "locked", false, "refuse a lock that is missing or does not fit the recipe")
	return cmd
}

// accel reads the flag --kvm.
func accel(kvm string) (vm.Accel, error) {
	switch kvm {
	case "auto":
		return vm.AccelAuto, nil
	case "on":
		return vm.AccelKVM, nil
	case "off":
		return vm.AccelTCG, nil
	}
	return 0, usageError{fmt.Errorf("--kvm %s: unknown: use auto, on or off", kvm)}
}

func (s *settings) test(ctx context.Context, args []string, f testFlags) (err error) {
	list, err := s.testsOf(args, f)
	if err != nil {
		return err
	}
	if f.junit != "" {
		// Whether it can be written is known before anything is booted.
		file, err := os.Create(f.junit)
		if err != nil {
			return err
		}
		defer file.Close()
		defer func() {
			if len(list) > 0 {
				err = errors.Join(err, boottest.WriteJUnit(file, suites(list)))
			}
		}()
	}
	dir, keep, err := consoleDir(f.console)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].options.ConsoleDir = dir
	}
	err = s.withBuilder(ctx, func(b *builder.Builder, p *progress) error {
		for _, t := range list {
			t.options.Notice = p.Notice
		}
		return s.runTests(ctx, b, list, f.jobs)
	})
	if err == nil {
		err = s.verdict(list)
	}
	switch {
	case keep:
	case err == nil || ctx.Err() != nil:
		return errors.Join(err, os.RemoveAll(dir))
	default:
		os.Remove(dir) // where nothing was booted it is empty
	}
	return err
}

// consoleDir is the folder for consoles; keep says that it is the user's.
func consoleDir(name string) (dir string, keep bool, err error) {
	if name == "" {
		dir, err = os.MkdirTemp("", "applbuild-test-")
		return dir, false, err
	}
	return name, true, os.MkdirAll(name, 0o755)
}

// A tested is a recipe or a disk, with what came of its tests.
type tested struct {
	options boots.TestOptions
	report  *boottest.Report
	err     error
}

func suites(list []*tested) []boottest.Suite {
	var all []boottest.Suite
	for _, t := range list {
		all = append(all, boottest.Suite{Name: t.options.Name, Report: t.report, Err: t.err})
	}
	return all
}

// testsOf reads all recipes and tests, so that what is wrong with one is said
// before anything is built.
func (s *settings) testsOf(args []string, f testFlags) ([]*tested, error) {
	how, err := accel(f.kvm)
	if err != nil {
		return nil, err
	}
	var given []recipes.Test
	if f.tests != "" {
		if given, err = recipes.LoadTests(f.tests, recipes.Options{}); err != nil {
			return nil, err
		}
	}
	var list []*tested
	names := map[string]int{}
	for _, arg := range args {
		o := boots.TestOptions{Tests: given, Accel: how, Now: time.Now, Random: rand.Reader}
		switch filepath.Ext(arg) {
		case ".yml", ".yaml":
			if o.Recipe, err = s.recipe(arg); err == nil {
				err = hasDisk(o.Recipe)
			}
			if err != nil {
				return nil, err
			}
			if o.Name = o.Recipe.Name; f.tests == "" {
				o.Tests = o.Recipe.Tests
			}
		default:
			if f.tests == "" {
				return nil, usageError{fmt.Errorf("%s is no recipe: name its tests with --tests FILE", arg)}
			}
			o.Image, o.Arch = arg, archOf(arg)
			o.Name = strings.TrimSuffix(filepath.Base(arg), filepath.Ext(arg))
		}
		if err := boots.CheckTests(o.Tests); err != nil {
			return nil, err
		}
		// Two of one name are told apart.
		if names[o.Name]++; names[o.Name] > 1 {
			o.Name += "#" + strconv.Itoa(names[o.Name])
		}
		o.Tell = s.teller(o.Name)
		list = append(list, &tested{options: o})
	}
	return list, nil
}

// detailIndent is put before what a line of a result says in detail.
var detailIndent = strings.Repeat(" ", 8)

// teller prints a test's results.
func (s *settings) teller(name string) func(boottest.Result) {
	return func(r boottest.Result) {
		if s.quiet && r.Status == boottest.Passed {
			return
		}
		line := fmt.Sprintf("%-4s  %s: %s  %s", r.Status, name, r.Name, seconds(r.Took))
		if r.Note != "" {
			line += "  (" + r.Note + ")"
		}
		for _, d := range r.Details {
			line += "\n" + detailIndent + d
		}
		// One call, so that lines of several machines are not mixed.
		io.WriteString(s.stdout, line+"\n")
	}
}

// runTests builds one after the other, then boots side by side.
func (s *settings) runTests(ctx context.Context, b *builder.Builder, list []*tested, jobs int) error {
	ready := make([]*boots.Test, len(list))
	for i, t := range list {
		test, err := boots.Prepare(ctx, b, t.options)
		if err != nil {
			t.err = err
			if ctx.Err() != nil {
				return err
			}
			continue
		}
		defer test.Close(ctx)
		ready[i] = test
	}
	if jobs <= 0 {
		jobs = machines(list)
	}
	slots := make(chan struct{}, jobs)
	var running sync.WaitGroup
	for i, test := range ready {
		if test == nil {
			continue
		}
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			list[i].report, list[i].err = test.Run(ctx)
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// machines is how many of the machines may run at one time: each has its
// processors and memory to itself.
func machines(list []*tested) int {
	memory, cpus := int64(1), 1
	for _, t := range list {
		m, c := boots.Needs(t.options.Tests)
		memory, cpus = max(memory, m), max(cpus, c)
	}
	n := max(1, runtime.NumCPU()/cpus)
	if free := availableMemory(); free > 0 {
		n = min(n, int(free/memory))
	}
	return max(1, min(n, len(list)))
}

// availableMemory is the host's memory that programs can have, in bytes; 0 where it
// is not known (proc_meminfo(5)).
func availableMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// verdict sums the tests up and returns the error that the program ends with.
func (s *settings) verdict(list []*tested) error {
	var errs []error
	for _, t := range list {
		name := t.options.Name
		if t.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, t.err))
		}
		if t.report == nil {
			continue
		}
		passed, failed, skipped := t.report.Count(boottest.Passed), t.report.Count(boottest.Failed), t.report.Count(boottest.Skipped)
		if !s.quiet {
			fmt.Fprintf(s.stdout, "%s: %d passed, %d failed, %d skipped in %s\n", name, passed, failed, skipped, seconds(t.report.Took))
		}
		bad := failed > 0 || t.err != nil
		switch {
		case t.report.NeverUp:
			errs = append(errs, fmt.Errorf("%s: %w: %d of %d tests failed", name, errNeverUp, failed, passed+failed+skipped))
		case failed > 0:
			errs = append(errs, fmt.Errorf("%s: %d of %d %w", name, failed, passed+failed+skipped, errTestsFailed))
		}
		for _, console := range t.report.Consoles {
			if bad {
				fmt.Fprintf(s.stdout, "%sconsole: %s\n", detailIndent, console)
			}
		}
	}
	return errors.Join(errs...)
}

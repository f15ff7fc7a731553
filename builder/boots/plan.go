package boots

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/recipes"
)

// plan turns a recipe's tests into a plan.
func (t *testMachine) plan(tests []recipes.Test) (boottest.Plan, error) {
	if len(tests) == 0 {
		return boottest.Plan{{Name: "boots", Action: boottest.Boot{}}}, nil
	}
	var plan boottest.Plan
	for i := range tests {
		test := &tests[i]
		step := boottest.Step{Name: test.Name, Limit: time.Duration(test.Timeout)}
		if step.Name == "" {
			step.Name = describe(test)
		}
		var err error
		if step.Action, err = checkAction(test); err != nil {
			return nil, err
		}
		if step.Action == nil {
			step.Action, step.Quiet = t.stepAction(test)
		}
		plan = append(plan, step)
		if test.Machine != nil && test.Machine.AllowFailed != nil {
			plan = append(plan, boottest.Step{Name: step.Name, Action: boottest.AllowFailed{Units: test.Machine.AllowFailed}})
		}
		if test.AddDisk != nil {
			t.template.Slots++
		}
		if s := test.SSH; s != nil {
			if !slices.Contains(t.ports, s.Port) {
				t.ports = append(t.ports, s.Port)
			}
			t.rootKey = t.rootKey || s.User == "root" && s.KeyFile == ""
		}
	}
	return plan, nil
}

// checkAction is the action of a check, nil for a step.
func checkAction(t *recipes.Test) (boottest.Action, error) {
	switch {
	case t.Run != "":
		return boottest.RunCheck{Command: t.Run, Expect: expect(t.Expect)}, nil
	case t.Unit != nil:
		return boottest.UnitCheck{Unit: t.Unit.Name, State: t.Unit.State}, nil
	case t.Port != nil:
		return boottest.PortCheck{Protocol: t.Port.Protocol, Port: t.Port.Port, Closed: t.Port.Closed}, nil
	case t.File != nil:
		c := boottest.FileCheck{Path: t.File.Path, Absent: t.File.Absent, Kind: t.File.Kind, User: t.File.Owner.User, Group: t.File.Owner.Group}
		if t.File.Contents != nil {
			m := match(t.File.Contents)
			c.Contents = &m
		}
		if t.File.Mode != nil {
			mode := uint32(*t.File.Mode)
			c.Mode = &mode
		}
		return c, nil
	case t.Journal != nil:
		return boottest.JournalCheck{Unit: t.Journal.Unit, Has: t.Journal.Has, HasNot: t.Journal.HasNot}, nil
	case t.Mounted != nil:
		return boottest.MountCheck{
			Path: t.Mounted.Path, Absent: t.Mounted.Absent, Filesystem: t.Mounted.Filesystem,
			Options: t.Mounted.Options, AtLeast: int64(t.Mounted.AtLeast),
		}, nil
	case t.BootTime != nil:
		return boottest.TimeCheck{Unit: t.BootTime.Target, Below: time.Duration(t.BootTime.Below)}, nil
	case t.SSH != nil:
		c := boottest.SSHCheck{User: t.SSH.User, Port: t.SSH.Port, Command: t.SSH.Run, Expect: expect(t.SSH.Expect)}
		if t.SSH.KeyFile == "" {
			return c, nil
		}
		var err error
		c.Key, err = readKey(t.SSH.KeyFile)
		return c, err
	}
	return nil, nil
}

func expect(e *recipes.Expect) boottest.Expect {
	if e == nil {
		return boottest.Expect{}
	}
	return boottest.Expect{Exit: e.Exit, Stdout: match(e.Stdout), Stderr: match(e.Stderr)}
}

func match(m *recipes.TextMatch) boottest.Match {
	if m == nil {
		return boottest.Match{}
	}
	return boottest.Match{Contains: m.Contains, Not: m.Not, Equals: m.Equals, Empty: m.Empty}
}

// stepAction is the action of a step. One that only says how the machine is to be
// is quiet.
func (t *testMachine) stepAction(test *recipes.Test) (action boottest.Action, quiet bool) {
	change := func(quiet bool, apply func(context.Context) error) (boottest.Action, bool) {
		return boottest.Change{Apply: apply}, quiet
	}
	now := func(apply func()) (boottest.Action, bool) {
		return change(true, func(context.Context) error { apply(); return nil })
	}
	switch {
	case test.Machine != nil:
		return now(func() { t.rebuild(test.Machine) })
	case test.Boot != nil:
		return bootAction(test.Boot), false
	case test.Reboot != nil:
		return boottest.Reboot(bootAction(test.Reboot)), false
	case test.PowerCut != nil:
		return boottest.PowerCut{After: time.Duration(test.PowerCut.After)}, false
	case test.Poweroff != nil:
		return boottest.Poweroff{}, false
	case test.AddDisk != nil:
		d := test.AddDisk
		return change(false, func(ctx context.Context) error { return t.addDisk(ctx, d.Name, d.SourceFile, int64(d.Size)) })
	case test.GrowDisk != nil:
		return change(false, func(ctx context.Context) error { return t.growDisk(ctx, test.GrowDisk.Disk, int64(test.GrowDisk.Size)) })
	case test.Corrupt != nil:
		return change(false, func(context.Context) error { return t.corrupt(test.Corrupt) })
	case test.Cidata != nil:
		return change(true, func(context.Context) error { return t.setSeed(test.Cidata) })
	case test.Network != "":
		return change(true, func(ctx context.Context) error { return t.setNetwork(ctx, vm.Network(test.Network)) })
	case test.Cmdline != "":
		return now(func() { t.cmdline = strings.TrimSpace(t.cmdline + " " + test.Cmdline) })
	}
	return boottest.Wait{Time: time.Duration(test.Wait)}, true
}

func bootAction(b *recipes.BootStep) boottest.Boot {
	action := boottest.Boot{Fails: b.Fails}
	if b.Console != nil {
		m := match(b.Console)
		action.Console = &m
	}
	return action
}

// describe is the name of a test that has none.
func describe(t *recipes.Test) string {
	switch {
	case t.Run != "":
		line, _, more := strings.Cut(strings.TrimSpace(t.Run), "\n")
		if more || len(line) > 60 {
			line = strings.ToValidUTF8(line[:min(len(line), 60)], "") + "…"
		}
		return line
	case t.Unit != nil:
		return t.Unit.Name + " is " + t.Unit.State
	case t.Port != nil:
		return fmt.Sprintf("%s port %d is %s", t.Port.Protocol, t.Port.Port, either(t.Port.Closed, "closed", "open"))
	case t.File != nil:
		return t.File.Path + either(t.File.Absent, " is not there", " is as expected")
	case t.Journal != nil:
		return "journal" + either(t.Journal.Unit != "", " of "+t.Journal.Unit, "") + " is as expected"
	case t.Mounted != nil:
		return t.Mounted.Path + either(t.Mounted.Absent, " is not mounted", " is mounted")
	case t.BootTime != nil:
		return t.BootTime.Target + " is reached in time"
	case t.SSH != nil:
		return t.SSH.User + " logs in by SSH"
	case t.AddDisk != nil:
		return "disk " + t.AddDisk.Name + " is added"
	case t.GrowDisk != nil:
		return fmt.Sprintf("disk %s grows to %s", t.GrowDisk.Disk, t.GrowDisk.Size)
	case t.Corrupt != nil:
		return fmt.Sprintf("%s is corrupted", either(t.Corrupt.Partition != "", t.Corrupt.Partition, "disk "+t.Corrupt.Disk))
	}
	return describeStep(t)
}

func describeStep(t *recipes.Test) string {
	switch {
	case t.Machine != nil:
		return "machine"
	case t.Boot != nil:
		return either(t.Boot.Fails, "does not boot", "boots")
	case t.Reboot != nil:
		return either(t.Reboot.Fails, "reboots and does not come up", "reboots")
	case t.PowerCut != nil:
		return "power is cut"
	case t.Poweroff != nil:
		return "powers off"
	case t.Cidata != nil:
		return "cidata"
	case t.Network != "":
		return "network " + t.Network
	case t.Cmdline != "":
		return "command line"
	}
	return "wait"
}

func either(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

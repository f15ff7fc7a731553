package boots

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
)

// A Guest is a boot of a machine under test. It implements [boottest.Guest]. Its
// machine must have a port [boottest.PortName].
type Guest struct {
	*vm.Guest
	console *os.File
	closed  sync.Once
}

// Start boots a machine whose console goes into a new file.
func Start(ctx context.Context, m *vm.Machine, console string) (*Guest, error) {
	f, err := os.Create(console)
	if err != nil {
		return nil, err
	}
	m.Console = f
	guest, err := m.Start(ctx)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Guest{Guest: guest, console: f}, nil
}

// Port implements boottest.Guest.
func (g *Guest) Port() io.ReadWriter { return g.Guest.Port(boottest.PortName) }

// Close implements boottest.Guest.
func (g *Guest) Close() {
	g.Guest.Close()
	g.closed.Do(func() { g.console.Close() })
}

// Dial implements boottest.Guest.
func (g *Guest) Dial(ctx context.Context, port int) (net.Conn, error) {
	for _, f := range g.Forwards() {
		if f.Guest == port {
			d := net.Dialer{Timeout: 10 * time.Second}
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.Host)))
		}
	}
	return nil, fmt.Errorf("nothing leads to the machine's port %d: it has no network", port)
}

// End implements boottest.Guest.
func (g *Guest) End() boottest.End {
	result, err := g.Wait(context.Background())
	if result == nil {
		return boottest.End{Kind: "failure", Err: err}
	}
	return boottest.End{Kind: string(result.Exit), Detail: result.Panic, Err: err}
}

// fatal are kinds of findings after which a machine does not come up.
var fatal = map[vm.Kind]bool{
	vm.KernelPanic: true, vm.Emergency: true, vm.FirmwareShell: true, vm.NoBootDevice: true, vm.Stopped: true,
}

// Problems implements boottest.Guest.
func (g *Guest) Problems() []boottest.Problem {
	var problems []boottest.Problem
	for _, f := range g.Findings() {
		problems = append(problems, boottest.Problem{Kind: string(f.Kind), Text: f.Text, Fatal: fatal[f.Kind]})
	}
	return problems
}

const (
	quotedLines = 15      // of a console, in a result
	maxConsole  = 4 << 20 // bytes of a console that are looked at
)

// escape is a sequence of ECMA-48 that steers a terminal.
var escape = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[()#%][0-9A-Z]|[=>78cM])|\r`)

// Console implements boottest.Guest.
func (g *Guest) Console() boottest.Console {
	c := boottest.Console{File: g.console.Name(), Last: g.ConsoleTail(quotedLines)}
	f, err := os.Open(c.File)
	if err != nil {
		return c
	}
	defer f.Close()
	if text, err := io.ReadAll(io.LimitReader(f, maxConsole)); err == nil {
		c.Text = escape.ReplaceAllString(string(text), "")
	}
	return c
}

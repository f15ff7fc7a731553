package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows what a build does: live lines on a terminal, plain lines with
// times elsewhere, JSON objects for programs, or nothing.
type progress struct {
	out  io.Writer
	now  func() time.Time
	mode progressMode

	mu      sync.Mutex
	start   time.Time
	running []*stageLine
	done    []stageTime
	painted int // live lines on the screen
	width   int
	stop    chan struct{}
	stopped sync.WaitGroup
}

type progressMode int

const (
	progressPlain progressMode = iota
	progressLive
	progressQuiet
	progressJSON
)

type stageLine struct {
	name        string
	start       time.Time
	done, total int64
}

type stageTime struct {
	Name   string
	Took   time.Duration
	Cached bool
}

// repaint is how often live lines are drawn anew.
const repaint = 100 * time.Millisecond

// newProgress begins to show progress on out. The caller closes it.
func newProgress(out *os.File, quiet bool, format string) (*progress, error) {
	p := &progress{out: out, now: time.Now, stop: make(chan struct{})}
	switch {
	case format != "" && format != "text" && format != "json":
		return nil, fmt.Errorf("--log-format %s: unknown: use text or json", format)
	case format == "json":
		p.mode = progressJSON
	case quiet:
		p.mode = progressQuiet
	case term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb":
		p.mode = progressLive
		if p.width, _, _ = term.GetSize(int(out.Fd())); p.width < 40 {
			p.width = 80
		}
	}
	p.start = p.now()
	if p.mode == progressLive {
		p.stopped.Go(p.repaintUntilStopped)
	}
	return p, nil
}

func (p *progress) repaintUntilStopped() {
	ticker := time.NewTicker(repaint)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.paint()
			p.mu.Unlock()
		}
	}
}

// Close ends the live lines.
func (p *progress) Close() {
	close(p.stop)
	p.stopped.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) find(stage string) (int, *stageLine) {
	for i, line := range p.running {
		if line.name == stage {
			return i, line
		}
	}
	return -1, nil
}

func (p *progress) StageStarted(stage string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, &stageLine{name: stage, start: p.now()})
	switch p.mode {
	case progressPlain:
		p.line("%s", stage)
	case progressJSON:
		p.event(map[string]any{"event": "start", "stage": stage})
	}
}

func (p *progress) StageProgress(stage string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, line := p.find(stage); line != nil {
		line.done, line.total = done, total
	}
}

func (p *progress) StageDone(stage string, cached bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, line := p.find(stage)
	if line == nil {
		line = &stageLine{name: stage, start: p.now()}
	} else {
		p.running = append(p.running[:i:i], p.running[i+1:]...)
	}
	took := p.now().Sub(line.start)
	p.done = append(p.done, stageTime{stage, took, cached})
	what := fmt.Sprintf("%s done in %s", stage, seconds(took))
	if cached {
		what = stage + " kept from before"
	}
	if err != nil {
		what = stage + " failed"
	}
	if line.done > 0 && !cached {
		what += ", " + byteText(line.done)
	}
	switch p.mode {
	case progressPlain, progressLive:
		p.line("%s", what)
	case progressJSON:
		event := map[string]any{"event": "done", "stage": stage, "seconds": took.Seconds(), "cached": cached}
		if err != nil {
			event["error"] = err.Error()
		}
		p.event(event)
	}
}

func (p *progress) Notice(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.mode {
	case progressPlain, progressLive:
		p.line("note: %s", text)
	case progressJSON:
		p.event(map[string]any{"event": "notice", "text": text})
	}
}

// line prints a lasting line with the time since the start.
func (p *progress) line(format string, args ...any) {
	p.erase()
	fmt.Fprintf(p.out, "%7s  %s\n", seconds(p.now().Sub(p.start)), fmt.Sprintf(format, args...))
	p.paint()
}

func (p *progress) event(event map[string]any) {
	event["elapsed"] = p.now().Sub(p.start).Seconds()
	data, err := json.Marshal(event)
	if err != nil {
		return
	}
	fmt.Fprintf(p.out, "%s\n", data)
}

func (p *progress) erase() {
	if p.painted > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.painted)
		p.painted = 0
	}
}

func (p *progress) paint() {
	if p.mode != progressLive {
		return
	}
	p.erase()
	for _, line := range p.running {
		text := line.text(p.now())
		if len(text) > p.width-1 {
			text = text[:p.width-1]
		}
		fmt.Fprintln(p.out, text)
		p.painted++
	}
}

// text is the live line of a stage: time, bytes, rate and time left.
func (l *stageLine) text(now time.Time) string {
	took := now.Sub(l.start)
	var b strings.Builder
	fmt.Fprintf(&b, "%7s  %-8s", seconds(took), l.name)
	if l.done == 0 && l.total == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, " %s", byteText(l.done))
	rate := float64(l.done) / took.Seconds()
	if l.total > 0 {
		fmt.Fprintf(&b, " of %s", byteText(l.total))
	}
	if took < time.Second || rate <= 0 {
		return b.String()
	}
	fmt.Fprintf(&b, ", %s/s", byteText(int64(rate)))
	if l.total > l.done {
		left := time.Duration(float64(l.total-l.done) / rate * float64(time.Second))
		fmt.Fprintf(&b, ", %s left", seconds(left))
	}
	return b.String()
}

// stages is what each stage took, in the order in which they ended.
func (p *progress) stages() []stageTime {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]stageTime(nil), p.done...)
}

// elapsed is the time since the start.
func (p *progress) elapsed() time.Duration { return p.now().Sub(p.start) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func byteText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

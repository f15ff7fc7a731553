package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// plugged is a slot's disk; without an id the slot is free.
type plugged struct {
	id  string
	bus Bus
}

// set is the number of the file descriptor set that QEMU keeps a plugged disk's
// file in.
func set(slot int) int { return slot + 1 }

// Plug plugs a disk into a free slot while the guest runs; the guest sees it a
// moment later. d.ID must be new, and d must be either written or read-only.
func (g *Guest) Plug(ctx context.Context, d Drive) error {
	if err := d.check(); err != nil {
		return err
	}
	switch {
	case d.ID == "":
		return fmt.Errorf("vm: disk %s: an id is needed to plug it", d.Path)
	case d.Write == d.ReadOnly:
		return fmt.Errorf("vm: disk %s: a disk that is plugged is either written or read-only", d.Path)
	case d.Backing != "":
		return fmt.Errorf("vm: disk %s: an overlay cannot be plugged", d.Path)
	}
	device, err := d.device(d.ID)
	if err != nil {
		return err
	}
	slot, err := g.takeSlot(d.ID, d.Bus)
	if err != nil {
		return err
	}
	monitor, ctx, cancel := g.monitor(ctx)
	defer cancel()
	if err := monitor.addDisk(ctx, slot, &d, device); err != nil {
		g.freeSlot(d.ID)
		return err
	}
	return nil
}

// takeSlot reserves a free slot for a disk.
func (g *Guest) takeSlot(id string, bus Bus) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.m.Disks {
		if g.m.diskID(i) == id {
			return 0, fmt.Errorf("vm: there is a disk %s already", id)
		}
	}
	free := -1
	for i, p := range g.plugged {
		if p.id == id {
			return 0, fmt.Errorf("vm: there is a disk %s already", id)
		}
		if p.id == "" && free < 0 {
			free = i
		}
	}
	if free < 0 {
		return 0, fmt.Errorf("vm: no free slot for disk %s: the machine has %d", id, len(g.plugged))
	}
	g.plugged[free] = plugged{id, bus}
	return free, nil
}

// slotOf returns the slot that a disk was plugged into.
func (g *Guest) slotOf(id string) (int, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.plugged {
		if id != "" && p.id == id {
			return i, true
		}
	}
	return 0, false
}

func (g *Guest) freeSlot(id string) {
	if slot, ok := g.slotOf(id); ok {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.plugged[slot] = plugged{}
	}
}

// addDisk hands a disk's file to QEMU, which may not see the host's folders, and
// shows it to the guest.
func (m *monitor) addDisk(ctx context.Context, slot int, d *Drive, device [][2]string) error {
	mode := os.O_RDONLY
	if d.Write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(d.Path, mode, 0)
	if err != nil {
		return fmt.Errorf("vm: disk: %w", err)
	}
	defer f.Close()
	if _, err := m.call(ctx, "add-fd", map[string]any{"fdset-id": set(slot)}, f); err != nil {
		return err
	}
	_, err = m.call(ctx, "blockdev-add", map[string]any{
		"driver": orDefault(d.Format, "raw"), "node-name": d.ID, "read-only": d.ReadOnly, "discard": "unmap",
		"file": map[string]any{"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", set(slot)), "discard": "unmap"},
	})
	if err == nil {
		arguments := map[string]any{"bus": fmt.Sprintf("slot%d", slot)}
		for _, p := range device {
			arguments[p[0]] = p[1]
		}
		if d.SectorSize != 0 {
			arguments["logical_block_size"], arguments["physical_block_size"] = d.SectorSize, d.SectorSize
		}
		_, err = m.call(ctx, "device_add", arguments)
	}
	if err != nil {
		return errors.Join(err, m.dropDisk(ctx, slot, d.ID))
	}
	return nil
}

// dropDisk has QEMU close the file of a disk that no device uses.
func (m *monitor) dropDisk(ctx context.Context, slot int, id string) error {
	_, err := m.call(ctx, "blockdev-del", map[string]any{"node-name": id})
	_, errFD := m.call(ctx, "remove-fd", map[string]any{"fdset-id": set(slot)})
	return errors.Join(err, errFD)
}

// unplugRetry is how often a guest is asked again to let a disk go: one that has
// just started does not hear it.
const unplugRetry = 2 * time.Second

// Unplug asks the guest to let a plugged disk go, as somebody does who presses the
// button beside a slot, and takes it out. It waits for the guest until ctx ends.
// What the guest has not written to it is the guest's affair.
func (g *Guest) Unplug(ctx context.Context, id string) error {
	slot, ok := g.slotOf(id)
	if !ok {
		return fmt.Errorf("vm: disk %s was not plugged", id)
	}
	g.mu.Lock()
	monitor := g.process.monitor
	g.mu.Unlock()
	device := "dev-" + id
	gone := monitor.onUnplug(device)
	for asked := false; ; asked = true {
		_, err := monitor.call(ctx, "device_del", map[string]any{"id": device})
		// QEMU refuses while an earlier wish is pending, and when the device is
		// gone since.
		if err != nil && (!asked || errors.Is(err, errGone)) {
			return err
		}
		select {
		case m := <-gone:
			if m.Event != "DEVICE_DELETED" {
				return fmt.Errorf("vm: the guest does not let disk %s go", id)
			}
			if err := monitor.dropDisk(ctx, slot, id); err != nil {
				return err
			}
			g.freeSlot(id)
			return nil
		case <-time.After(unplugRetry):
		case <-monitor.gone:
			return fmt.Errorf("vm: unplugging disk %s: %w", id, errGone)
		case <-ctx.Done():
			return fmt.Errorf("vm: the guest has not let disk %s go: %w", id, context.Cause(ctx))
		}
	}
}

// busOf returns the bus of a disk, "" for one that is not there.
func (g *Guest) busOf(id string) Bus {
	for i := range g.m.Disks {
		if g.m.diskID(i) == id {
			return g.m.Disks[i].Bus
		}
	}
	if slot, ok := g.slotOf(id); ok {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.plugged[slot].bus
	}
	return ""
}

// Grow makes a disk larger while the guest runs, its file too where it is
// written. size is the new one in bytes, a multiple of 512. The disk must not be
// on [BusNVMe]: QEMU's NVMe controller cannot tell the guest of a new size.
func (g *Guest) Grow(ctx context.Context, id string, size int64) error {
	if g.busOf(id) == BusNVMe {
		return fmt.Errorf("vm: disk %s is an NVMe disk, which QEMU cannot make larger while the guest runs", id)
	}
	monitor, ctx, cancel := g.monitor(ctx)
	defer cancel()
	arguments := map[string]any{"size": size}
	if _, ok := g.slotOf(id); ok {
		arguments["node-name"] = id
	} else {
		arguments["device"] = id
	}
	now, err := monitor.sizeOf(ctx, id)
	if err != nil {
		return err
	}
	if size < now || size%512 != 0 {
		return fmt.Errorf("vm: disk %s of %d bytes to grow to %d: want more, and a multiple of 512", id, now, size)
	}
	_, err = monitor.call(ctx, "block_resize", arguments)
	return err
}

// sizeOf returns the size of a disk in bytes.
func (m *monitor) sizeOf(ctx context.Context, id string) (int64, error) {
	b, err := m.call(ctx, "query-block", nil)
	if err != nil {
		return 0, err
	}
	var disks []struct {
		Device   string
		QDev     string
		Inserted *struct {
			Image struct {
				VirtualSize int64 `json:"virtual-size"`
			}
		}
	}
	if err := json.Unmarshal(b, &disks); err != nil {
		return 0, fmt.Errorf("vm: QEMU's list of disks: %w", err)
	}
	for _, d := range disks {
		// A plugged disk has no name of its own there, only its device's.
		if d.Inserted != nil && (d.Device == id || strings.Contains("/"+d.QDev+"/", "/dev-"+id+"/")) {
			return d.Inserted.Image.VirtualSize, nil
		}
	}
	return 0, fmt.Errorf("vm: the machine has no disk %s", id)
}

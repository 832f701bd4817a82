package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"
)

// Memory is what this process uses, in bytes.
type Memory struct {
	RSS  uint64 `json:"rss"`  // resident, as the kernel counts it
	Peak uint64 `json:"peak"` // the most that was ever resident
	// What the Go runtime says: objects on the heap, dead ones that were not collected yet included; and stacks.
	Heap  uint64 `json:"heap"`
	Stack uint64 `json:"stack"`
}

// ReadMemory returns what this process uses now. Nothing is collected for it: the figures are what an operator sees.
func ReadMemory() (Memory, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Memory{}, fmt.Errorf("cannot read how much memory the process uses, which only Linux tells so: %w", err)
	}
	m, err := parseStatus(status)
	if err != nil {
		return Memory{}, err
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	m.Heap, m.Stack = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return m, nil
}

// parseStatus reads the sizes in /proc/PID/status.
func parseStatus(status []byte) (m Memory, err error) {
	for _, field := range []struct {
		name string
		into *uint64
	}{
		{"VmRSS:", &m.RSS},
		{"VmHWM:", &m.Peak},
	} {
		_, rest, found := bytes.Cut(status, []byte("\n"+field.name))
		value, _, _ := bytes.Cut(rest, []byte(" kB\n"))
		kib, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		if !found || err != nil {
			return Memory{}, fmt.Errorf("cannot find %s in the process's status", field.name)
		}
		*field.into = kib << 10
	}
	return m, nil
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go runs on under Linux.
const ticksPerSecond = 100

// ProcessorTime returns how long this process has been on a processor.
func ProcessorTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, fmt.Errorf("cannot read how much processor time the process has used, which only Linux tells so: %w", err)
	}
	return parseStat(stat)
}

// parseStat reads user and system time in /proc/PID/stat. The name, which comes second, may hold anything.
func parseStat(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	const user, system = 11, 12
	if end < 0 || len(fields) <= system {
		return 0, fmt.Errorf("cannot find processor time in %q", stat)
	}
	var ticks uint64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseUint(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot read processor time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// Machine is what figures depend on beside what is measured.
type Machine struct {
	Go   string `json:"go"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
}

// ThisMachine returns the machine that this process runs on.
func ThisMachine() Machine {
	return Machine{Go: runtime.Version(), CPUs: runtime.GOMAXPROCS(0), OS: runtime.GOOS + "/" + runtime.GOARCH}
}

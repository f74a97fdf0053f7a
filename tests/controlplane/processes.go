package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopPatience is the time limit for a process to end on its own. It is short because all data is thrown away.
const stopPatience = 5 * time.Second

// logTail is how many lines of a dead process' log are shown.
const logTail = 15

// processes owns every process that serve starts. It guarantees that none outlives this one: each child is sent a signal by
// the kernel when we die, and stopAll ends them, last started first, when we end in good order.
type processes struct {
	dir   string        // logs are DIR/logs/NAME.log, process IDs DIR/pids/NAME
	spawn chan func()   // work for the one thread that starts children
	died  chan struct{} // closed when a process ended unexpectedly; failure names it

	once     sync.Once
	failure  error
	mu       sync.Mutex
	running  []*process
	stopping bool
}

// process is one running child.
type process struct {
	name string
	cmd  *exec.Cmd
	stop syscall.Signal
	born time.Time
	done chan struct{} // closed when it has ended
	end  string        // exit status or signal; valid once done is closed
}

// program describes a child process and its end.
type program struct {
	name      string
	path      string
	args      []string
	env       []string            // beside our own
	owner     *syscall.Credential // nil: our own user
	stop      syscall.Signal      // what ends it in good order, also sent by the kernel if we are killed
	supervise func(*process)      // called when it ends by itself; nil: all programs end
}

// newProcesses prepares DIR and the starting thread.
func newProcesses(dir string) (*processes, error) {
	for _, sub := range []string{"logs", "pids", "stopped"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	p := &processes{dir: dir, spawn: make(chan func()), died: make(chan struct{})}
	go func() {
		// The parent-death signal fires when the *thread* that started the child ends, so one thread starts
		// them all and lives as long as the process.
		runtime.LockOSThread()
		for start := range p.spawn {
			start()
		}
	}()
	return p, nil
}

func (p *processes) logFile(name string) string { return filepath.Join(p.dir, "logs", name+".log") }
func (p *processes) pidFile(name string) string { return filepath.Join(p.dir, "pids", name) }

// heldDown reports whether a test keeps this process down for a while, by the file DIR/stopped/NAME.
func (p *processes) heldDown(name string) bool {
	_, err := os.Stat(filepath.Join(p.dir, "stopped", name))
	return err == nil
}

// start starts a child with its output in its log file.
func (p *processes) start(program program) (*process, error) {
	log, err := os.OpenFile(p.logFile(program.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command(program.path, program.args...)
	cmd.Env = append(os.Environ(), program.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C in the terminal reaches us alone, and we end the children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: program.stop, Credential: program.owner}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return nil, errors.New("everything is being stopped")
	}
	started := make(chan error)
	p.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s does not start: %w", program.name, err)
	}
	child := &process{name: program.name, cmd: cmd, stop: program.stop, born: time.Now(), done: make(chan struct{})}
	p.running = append(p.running, child)
	go p.await(child, program)
	return child, os.WriteFile(p.pidFile(program.name), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
}

// await waits for the end of a child and fails if the end was not requested.
func (p *processes) await(child *process, program program) {
	_ = child.cmd.Wait() // the process state has the same information
	child.end = child.cmd.ProcessState.String()
	close(child.done)
	_ = os.Remove(p.pidFile(child.name))

	p.mu.Lock()
	p.running = slices.DeleteFunc(p.running, func(other *process) bool { return other == child })
	stopping := p.stopping
	p.mu.Unlock()
	switch {
	case stopping:
	case program.supervise != nil:
		program.supervise(child)
	default:
		p.fail(fmt.Errorf("%s ended unexpectedly (%v); the end of its log:\n%s", child.name, child.end, p.tail(child.name)))
	}
}

// fail reports the first failure; later ones are its consequences.
func (p *processes) fail(err error) {
	p.once.Do(func() {
		p.failure = err
		close(p.died)
	})
}

// tail is the end of a process' log, indented.
func (p *processes) tail(name string) string {
	content, err := os.ReadFile(p.logFile(name))
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	lines = lines[max(0, len(lines)-logTail):]
	return "  " + strings.Join(lines, "\n  ")
}

// stopAll ends every child, the last started first, so that none loses what it depends on before its own end.
func (p *processes) stopAll() {
	p.mu.Lock()
	p.stopping = true
	running := slices.Clone(p.running)
	p.mu.Unlock()
	for _, child := range slices.Backward(running) {
		_ = child.cmd.Process.Signal(child.stop)
		_ = child.cmd.Process.Signal(syscall.SIGCONT) // a test may have paused it
		select {
		case <-child.done:
		case <-time.After(stopPatience):
			_ = child.cmd.Process.Kill()
			<-child.done
		}
	}
}

package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
	_ "github.com/lib/pq" // the driver by which readiness is asked
)

const (
	postgresName = "postgres"

	// fetched is the directory that a fetched PostgreSQL is unpacked into, beside what unpacking it needs.
	fetched = "fetched"

	// oldestPostgres is the oldest major version Waygate supports.
	oldestPostgres = 15

	// restartPause lies between the end of a PostgreSQL and its next start.
	restartPause = 200 * time.Millisecond

	// shortLife is the shortest run of a PostgreSQL that could be started at all. After shortLives shorter runs in
	// a row it is not started again.
	shortLife  = time.Second
	shortLives = 5
)

// database is a private PostgreSQL. It is durable as in production (Waygate refuses fsync=off), listens on the loopback
// interface only, and is started again when it ends, unless a test holds it down.
type database struct {
	processes *processes
	url       string              // for the superuser
	owner     *syscall.Credential // PostgreSQL refuses root; nil: our own user
	scratch   string              // what remove removes; empty: nothing
}

// start makes d.url usable: DATABASE_URL itself where that is set, else a server of our own.
func (d *database) start(ctx context.Context, dir string) error {
	if url := os.Getenv("DATABASE_URL"); url != "" {
		d.url = url
		return nil
	}
	if err := d.chooseOwner(); err != nil {
		return err
	}
	binaries, err := d.findBinaries(ctx)
	if err != nil {
		return err
	}
	home, err := d.makeHome(dir)
	if err != nil {
		return err
	}
	password := make([]byte, 16)
	if _, err := rand.Read(password); err != nil {
		return err
	}
	data := filepath.Join(home, "data")
	if err := d.initialise(ctx, binaries, home, data, hex.EncodeToString(password)); err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	d.url = fmt.Sprintf("postgres://postgres:%x@127.0.0.1:%d/postgres?sslmode=disable", password, ports[0])
	if err := d.run(filepath.Join(binaries, "postgres"), data, ports[0]); err != nil {
		return err
	}
	return d.untilReady(ctx)
}

// chooseOwner picks the user PostgreSQL runs as.
func (d *database) chooseOwner() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if uidErr != nil || gidErr != nil {
			continue
		}
		d.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return nil
	}
	return errors.New("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user nobody")
}

// makeHome makes the directory of the private cluster. As root it is a temporary one: the way to DIR may be closed to others.
func (d *database) makeHome(dir string) (string, error) {
	if d.owner == nil {
		home := filepath.Join(dir, postgresName)
		return home, os.MkdirAll(home, 0o700)
	}
	home, err := os.MkdirTemp("", "waygate-postgres-")
	if err != nil {
		return "", err
	}
	d.scratch = home
	return home, os.Chown(home, int(d.owner.Uid), int(d.owner.Gid))
}

// remove deletes what the cluster left outside DIR.
func (d *database) remove() {
	if d.scratch != "" {
		_ = os.RemoveAll(d.scratch)
	}
}

// initialise makes an empty cluster with one superuser.
func (d *database) initialise(ctx context.Context, binaries, home, data, password string) error {
	secret := filepath.Join(home, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return err
	}
	if d.owner != nil {
		if err := os.Chown(secret, int(d.owner.Uid), int(d.owner.Gid)); err != nil {
			return err
		}
	}
	initdb := d.command(ctx, filepath.Join(binaries, "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile="+secret, "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir = home
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	return os.Remove(secret)
}

// run starts the server, and starts it again whenever it ends.
func (d *database) run(postgres, data string, port int) error {
	server := program{
		name: postgresName,
		path: postgres,
		args: []string{
			"-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			"-c", "max_connections=200", "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=128MB",
		},
		owner: d.owner,
		stop:  syscall.SIGINT, // "fast": sessions are ended, not waited for
	}
	short := 0
	server.supervise = func(ended *process) {
		if short++; time.Since(ended.born) > shortLife {
			short = 0
		}
		if short == shortLives {
			d.processes.fail(fmt.Errorf("PostgreSQL cannot be started (%s); the end of its log:\n%s", ended.end, d.processes.tail(postgresName)))
			return
		}
		fmt.Fprintf(os.Stderr, "controlplane: PostgreSQL ended (%s) and is started again\n", ended.end)
		for time.Sleep(restartPause); d.processes.heldDown(postgresName); time.Sleep(restartPause) {
		}
		if _, err := d.processes.start(server); err != nil {
			d.processes.fail(err)
		}
	}
	_, err := d.processes.start(server)
	return err
}

// untilReady waits until the server answers a query.
func (d *database) untilReady(ctx context.Context) error {
	connection, err := sql.Open("postgres", d.url)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if err = connection.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.processes.died:
			return d.processes.failure
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL was not ready: %w; the end of its log:\n%s", err, d.processes.tail(postgresName))
		}
	}
}

// findBinaries finds PostgreSQL on this machine, or fetches it.
func (d *database) findBinaries(ctx context.Context) (string, error) {
	var candidates []string
	if output, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(output)))
	}
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(packaged) // the newest first
	candidates = append(candidates, packaged...)
	if found, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(found))
	}
	for _, candidate := range candidates {
		if majorVersion(ctx, candidate) >= oldestPostgres && isExecutable(filepath.Join(candidate, "initdb")) {
			return candidate, nil
		}
	}
	return d.fetchedBinaries(ctx)
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion asks a directory's postgres for its version; 0 if there is none.
func majorVersion(ctx context.Context, binaries string) int {
	output, err := exec.CommandContext(ctx, filepath.Join(binaries, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	match := versionPattern.FindSubmatch(output)
	if match == nil {
		return 0
	}
	version, _ := strconv.Atoi(string(match[1]))
	return version
}

// fetchedBinaries fetches PostgreSQL once for this machine, as the user who will run it: the library that does it also
// starts what it fetched, to see that it works here.
func (d *database) fetchedBinaries(ctx context.Context) (string, error) {
	cache := "/var/cache/waygate/postgresql" // root's own cache is closed to others
	if d.owner == nil {
		users, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(users, "waygate", "postgresql")
	}
	binaries := filepath.Join(cache, fetched, "bin")
	if majorVersion(ctx, binaries) >= oldestPostgres {
		return binaries, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	if d.owner != nil {
		if err := os.Chown(cache, int(d.owner.Uid), int(d.owner.Gid)); err != nil {
			return "", err
		}
	}
	fmt.Fprintln(os.Stderr, "controlplane: no PostgreSQL on this machine, fetching one (once)")
	self, err := os.Open("/proc/self/exe") // the way to our own file may be closed to that user
	if err != nil {
		return "", err
	}
	defer self.Close()
	fetch := d.command(ctx, "/proc/self/fd/3", "fetch-postgres", "--into", cache)
	fetch.ExtraFiles = []*os.File{self}
	fetch.Dir = cache
	if output, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching PostgreSQL: %w\n%s", err, output)
	}
	return binaries, nil
}

// fetchPostgres is the command that fetchedBinaries runs.
func fetchPostgres(args []string) error {
	flags := flag.NewFlagSet("fetch-postgres", flag.ExitOnError)
	into := flags.String("into", "", "the directory in which "+fetched+" appears, with bin, lib and share")
	flags.Parse(args)
	if *into == "" {
		return errors.New("fetch-postgres needs --into")
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	trial := embedded.NewDatabase(embedded.DefaultConfig().Port(uint32(ports[0])).Logger(os.Stderr).
		CachePath(filepath.Join(*into, "download")).BinariesPath(filepath.Join(*into, fetched)).RuntimePath(filepath.Join(*into, "trial")).
		StartParameters(map[string]string{"unix_socket_directories": ""}))
	if err := trial.Start(); err != nil {
		return err
	}
	return errors.Join(trial.Stop(), os.RemoveAll(filepath.Join(*into, "trial")), os.RemoveAll(filepath.Join(*into, "download")))
}

// command is a command that runs as PostgreSQL's user and ends with us.
func (d *database) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, path, args...)
	command.Env = append(os.Environ(), "LC_ALL=C", "HOME=/")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: d.owner}
	return command
}

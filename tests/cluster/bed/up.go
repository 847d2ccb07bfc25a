// Package bed is what the two control plane commands share: the command line,
// the certificates, the order of starting and stopping.
package bed

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// Longer than the slowest start that was seen on a busy machine (8 s) by
	// far: who waits for us has a limit of his own.
	readyTimeout = 110 * time.Second
	// An API server with watchers takes about two seconds to stop.
	stopTimeout = 10 * time.Second
	usage       = "usage: controlplane up --dir DIR [--port N] [--server-address IP] [--ephemeral] [-- APISERVER-FLAG...]\n" +
		"       controlplane kubectl ARG...\n"
)

// Engine is a way to run the servers: in this process or as other binaries.
type Engine interface {
	// Etcd serves dataDir on a unix socket and returns once it is ready. The
	// function it returns stops it.
	Etcd(ctx context.Context, dataDir, socket string) (stop func(), err error)
	// APIServer runs kube-apiserver on the port of listener until ctx ends.
	APIServer(ctx context.Context, listener net.Listener, flags []string) error
	// Kubectl runs kubectl and returns its exit code.
	Kubectl(args []string) int
}

// Main runs the subcommand that os.Args names and returns the exit code:
// 0 for an orderly end, 1 for an error, 2 for a wrong command line.
//
// `up` writes DIR/admin.kubeconfig and DIR/ca.crt, prints one line
// "ready https://127.0.0.1:PORT" when the API server says that it is ready, and
// runs until its stdin ends or it gets SIGTERM or SIGINT. Stdin is held open by
// whoever started it, so that a parent that dies, however, takes it along. A
// second `up` on the same DIR serves the same data, and tokens stay valid. With
// --ephemeral the end of stdin (not a signal) removes DIR as well. Told to stop
// while kube-apiserver starts it may end with 255: that server's own start-up
// hooks take a cancelled start for fatal.
func Main(engine Engine) int {
	if filepath.Base(os.Args[0]) == "kubectl" {
		return engine.Kubectl(os.Args[1:])
	}
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	switch os.Args[1] {
	case "kubectl":
		return engine.Kubectl(os.Args[2:])
	case "up":
		options, err := parse(os.Args[2:])
		if err != nil {
			fmt.Fprintf(os.Stderr, "controlplane: %v\n%s", err, usage)
			return 2
		}
		if err := up(engine, options); err != nil {
			fmt.Fprintf(os.Stderr, "controlplane: %v\n", err)
			return 1
		}
		return 0
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
}

type options struct {
	dir           string
	port          int
	serverAddress net.IP
	ephemeral     bool
	extraFlags    []string
}

func parse(args []string) (options, error) {
	var o options
	var address string
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "dir", "", "")
	flags.IntVar(&o.port, "port", 0, "")
	flags.StringVar(&address, "server-address", "10.0.2.2", "")
	flags.BoolVar(&o.ephemeral, "ephemeral", false, "")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.dir == "" {
		return o, errors.New("--dir is missing")
	}
	if o.serverAddress = net.ParseIP(address); o.serverAddress == nil {
		return o, fmt.Errorf("--server-address %q is not an IP address", address)
	}
	o.extraFlags = flags.Args()
	var err error
	o.dir, err = filepath.Abs(o.dir)
	return o, err
}

func up(engine Engine, o options) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(orphaned)
		cancel()
	}()
	err := serve(ctx, cancel, engine, o)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // told to stop while starting
	}
	select {
	case <-orphaned:
		if o.ephemeral {
			err = errors.Join(err, os.RemoveAll(o.dir))
		}
	default:
	}
	return err
}

func serve(ctx context.Context, cancel context.CancelFunc, engine Engine, o options) error {
	f := filesIn(o.dir)
	if err := f.create(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)))
	if err != nil {
		return fmt.Errorf("listen for the API server: %w", err)
	}
	defer listener.Close()
	url := "https://" + listener.Addr().String()
	admin, err := f.issue(url, o.serverAddress)
	if err != nil {
		return err
	}

	stopEtcd, err := engine.Etcd(ctx, f.etcdData, f.etcdSocket)
	if err != nil {
		return err
	}
	// Deferred, so that it comes last: without etcd the API server hangs.
	defer stopEtcd()
	flags := append(apiServerFlags(f, o.serverAddress), o.extraFlags...)
	served := make(chan error, 1)
	go func() { served <- engine.APIServer(ctx, listener, flags) }()

	if err := waitReady(ctx, url, admin, served); err != nil {
		cancel()
		waitStopped(served)
		return err
	}
	fmt.Printf("ready %s\n", url)
	select {
	case err := <-served:
		if ctx.Err() == nil {
			return fmt.Errorf("the API server ended by itself: %w", orUnknown(err))
		}
	case <-ctx.Done():
		waitStopped(served)
	}
	return nil
}

// waitReady returns nil when the server is ready.
func waitReady(ctx context.Context, url string, admin *tls.Config, served chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout,
		fmt.Errorf("not ready after %s", readyTimeout))
	defer cancel()
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: admin, DisableKeepAlives: true},
		Timeout:   5 * time.Second,
	}
	var last error
	for {
		if last = askReady(ctx, client, url+"/readyz"); last == nil {
			return nil
		}
		select {
		case err := <-served:
			served <- nil // has stopped, for whoever asks next
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the API server did not start: %w", orUnknown(err))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("API server %w; its last answer: %w", context.Cause(ctx), last)
			}
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func askReady(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}

func waitStopped(served chan error) {
	select {
	case <-served:
	case <-time.After(stopTimeout):
		fmt.Fprintf(os.Stderr, "controlplane: the API server did not stop within %s\n", stopTimeout)
	}
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("it gave no reason")
	}
	return err
}

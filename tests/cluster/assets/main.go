// Command assets is controlplane with other people's binaries: etcd,
// kube-apiserver and kubectl of the folder that KUBEBUILDER_ASSETS names. It
// needs nothing but Go's own library and is built in seconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"pointsman.io/tests/cluster/bed"
)

func main() {
	os.Exit(bed.Main(assets{dir: os.Getenv("KUBEBUILDER_ASSETS")}))
}

type assets struct{ dir string }

func (a assets) path(name string) (string, error) {
	if a.dir == "" {
		return "", errors.New("KUBEBUILDER_ASSETS is not set")
	}
	path := filepath.Join(a.dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("KUBEBUILDER_ASSETS: %w", err)
	}
	return path, nil
}

// Etcd runs the binary and waits until it accepts connections; the API server
// does the rest of the waiting by itself.
func (a assets) Etcd(ctx context.Context, dataDir, socket string) (func(), error) {
	// etcd outlives ctx until the API server has stopped.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- a.run(running, "etcd", "--data-dir="+dataDir,
			"--listen-client-urls=unix://"+socket,
			// Nobody is told of it, but etcd insists on a host and a port.
			"--advertise-client-urls=http://127.0.0.1:0",
			"--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync=true", "--log-level=warn")
	}()
	for {
		if connection, err := net.Dial("unix", socket); err == nil {
			_ = connection.Close()
			return func() { stop(); <-ended }, nil
		}
		select {
		case err := <-ended:
			stop()
			return nil, fmt.Errorf("start etcd: %w", err)
		case <-ctx.Done():
			stop()
			return nil, fmt.Errorf("start etcd: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// APIServer gives the port of listener to the binary, which opens it itself.
func (a assets) APIServer(ctx context.Context, listener net.Listener, flags []string) error {
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	if err := listener.Close(); err != nil {
		return err
	}
	return a.run(ctx, "kube-apiserver", append(flags, "--secure-port="+port)...)
}

// run lets a binary work until it ends or ctx does. The kernel kills the binary
// when the thread that started it ends, so this goroutine keeps its thread.
func (a assets) run(ctx context.Context, name string, args ...string) error {
	path, err := a.path(name)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command := exec.CommandContext(ctx, path, args...)
	command.Stderr, command.Stdout = os.Stderr, os.Stderr
	// A group of its own: a terminal's Ctrl-C would end etcd first.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command.Run()
}

func (a assets) Kubectl(args []string) int {
	path, err := a.path("kubectl")
	if err == nil {
		err = syscall.Exec(path, append([]string{"kubectl"}, args...), os.Environ())
	}
	fmt.Fprintf(os.Stderr, "controlplane: kubectl: %v\n", err)
	return 1
}

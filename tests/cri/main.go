// Command cri asks a container runtime, over and over, for its status by the
// kubelet's own interface, and tells what it has loaded as default network: a
// line of JSON whenever that is another one than before. It ends when its
// standard input does, with the number of questions.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// line is what a runtime says.
type line struct {
	// Ready is the condition NetworkReady, which makes a node Ready.
	Ready bool `json:"ready"`
	// Loaded is how the last load of the configuration went.
	Loaded string `json:"loaded"`
	// Source is the configuration itself; empty where there is none.
	Source string `json:"source"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "cri: %v\n", err)
		os.Exit(1)
	}
}

func run(socket string) error {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = connection.Close() }()
	client := runtime.NewRuntimeServiceClient(connection)
	ended := make(chan struct{})
	go func() {
		for input := bufio.NewReader(os.Stdin); ; {
			if _, err := input.ReadByte(); err != nil {
				close(ended)
				return
			}
		}
	}()
	var last *line
	for count := 0; ; count++ {
		select {
		case <-ended:
			fmt.Printf("{\"asked\":%d}\n", count)
			return nil
		default:
		}
		now, err := ask(client)
		if err != nil {
			return err
		}
		if last == nil || *now != *last {
			text, err := json.Marshal(now)
			if err != nil {
				return err
			}
			fmt.Println(string(text))
			last = now
		}
	}
}

func ask(client runtime.RuntimeServiceClient) (*line, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request := &runtime.StatusRequest{Verbose: true}
	status, err := client.Status(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("ask for the status: %w", err)
	}
	now := &line{Loaded: status.GetInfo()["lastCNILoadStatus"]}
	for _, condition := range status.GetStatus().GetConditions() {
		if condition.GetType() == runtime.NetworkReady {
			now.Ready = condition.GetStatus()
		}
	}
	var loaded struct {
		Networks []struct {
			IFName string
			Config struct{ Source string }
		}
	}
	if text := status.GetInfo()["cniconfig"]; text != "" {
		if err := json.Unmarshal([]byte(text), &loaded); err != nil {
			return nil, fmt.Errorf("understand %q: %w", text, err)
		}
	}
	for _, network := range loaded.Networks {
		if network.IFName == "eth0" {
			now.Source = network.Config.Source
		}
	}
	return now, nil
}

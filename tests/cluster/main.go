// Command controlplane is a whole Kubernetes control plane for tests in one
// process: etcd, kube-apiserver, and the kubectl of the same version.
//
//	controlplane up --dir DIR [--port N] [--server-address IP] [--ephemeral] [-- APISERVER-FLAG...]
//	controlplane kubectl ARG...
//
// Called by the name kubectl it is kubectl. What `up` promises is written in
// package bed; the sibling command assets keeps the same promises with the
// binaries of a KUBEBUILDER_ASSETS folder.
package main

import (
	"os"

	"pointsman.io/tests/cluster/bed"
)

func main() {
	os.Exit(bed.Main(embedded{}))
}

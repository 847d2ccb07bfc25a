package bed

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// firstServiceIP is the address of the service `kubernetes`.
const (
	serviceRange   = "10.96.0.0/24"
	firstServiceIP = "10.96.0.1"
	// sun_path holds 108 bytes with the zero at its end (unix(7)).
	longestSocket = 107
)

// files is what lies in the folder of one control plane.
type files struct {
	dir             string
	caCert, caKey   string
	tokenKey        string
	serverCert      string
	serverKey       string
	adminKubeconfig string
	etcdData        string
	etcdSocket      string
}

func filesIn(dir string) files {
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	return files{
		dir:             dir,
		caCert:          in("ca.crt"),
		caKey:           in("pki", "ca.key"),
		tokenKey:        in("pki", "token.key"),
		serverCert:      in("pki", "server.crt"),
		serverKey:       in("pki", "server.key"),
		adminKubeconfig: in("admin.kubeconfig"),
		etcdData:        in("etcd"),
		etcdSocket:      in("etcd.sock"),
	}
}

// create makes the folders. What is in them is as good as the cluster's root
// password: nobody else looks in.
func (f files) create() error {
	if len(f.etcdSocket) > longestSocket {
		return fmt.Errorf("%s: path too long for a unix socket (%d bytes, at most %d)",
			f.etcdSocket, len(f.etcdSocket), longestSocket)
	}
	for _, dir := range []string{f.dir, filepath.Dir(f.caKey), f.etcdData} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create the control plane's folder: %w", err)
		}
	}
	// A socket that was left by a killed etcd would keep the next one out.
	if err := os.Remove(f.etcdSocket); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the socket of a former run: %w", err)
	}
	return nil
}

// issue writes certificates and the administrator's kubeconfig for url, and
// returns what an HTTP client needs to be the administrator. The authority and
// the key that signs tokens stay what they were in a former run, so that
// kubeconfigs and tokens outlive a restart.
func (f files) issue(url string, serverAddress net.IP) (*tls.Config, error) {
	ca, err := loadAuthority(f.caCert, f.caKey)
	if err != nil {
		return nil, err
	}
	if _, err := loadKey(f.tokenKey); err != nil {
		return nil, err
	}
	cert, key, err := ca.server("kube-apiserver",
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
		[]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP(firstServiceIP), serverAddress})
	if err != nil {
		return nil, err
	}
	if err := write(f.serverCert, cert); err != nil {
		return nil, err
	}
	if err := write(f.serverKey, key); err != nil {
		return nil, err
	}
	if cert, key, err = ca.client("admin", "system:masters"); err != nil {
		return nil, err
	}
	if err := write(f.adminKubeconfig, kubeconfig(url, ca.pem, cert, key)); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("load the administrator's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}, nil
}

// kubeconfig holds everything by value: the file can be copied anywhere. JSON
// is YAML, and needs no library.
func kubeconfig(url string, ca, cert, key []byte) []byte {
	type object = map[string]any
	content, err := json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "tests",
		"clusters": []object{{"name": "tests", "cluster": object{
			"server": url, "certificate-authority-data": ca}}},
		"users": []object{{"name": "admin", "user": object{
			"client-certificate-data": cert, "client-key-data": key}}},
		"contexts": []object{{"name": "tests", "context": object{
			"cluster": "tests", "user": "admin"}}},
	}, "", "  ")
	if err != nil {
		panic(err) // strings and bytes only: cannot happen
	}
	return append(content, '\n')
}

// write replaces path as a whole, so that a reader never sees half of it.
func write(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func apiServerFlags(f files, serverAddress net.IP) []string {
	return []string{
		"--etcd-servers=unix://" + f.etcdSocket,
		"--bind-address=127.0.0.1",
		"--tls-cert-file=" + f.serverCert,
		"--tls-private-key-file=" + f.serverKey,
		"--client-ca-file=" + f.caCert,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction,ValidatingAdmissionPolicy",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + f.tokenKey,
		"--service-account-signing-key-file=" + f.tokenKey,
		"--service-cluster-ip-range=" + serviceRange,
		// Looked up by way of the default route otherwise, and there may be none.
		"--advertise-address=" + serverAddress.String(),
		"--endpoint-reconciler-type=none",
		// Shortens the stop: open watches are given two seconds, not sixty.
		"--shutdown-send-retry-after=true",
		"--profiling=false",
	}
}

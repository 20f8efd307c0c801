package natsauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// certificateLife is a year: renewing is one command and one reload.
	certificateLife = 365 * 24 * time.Hour
	// clockSkew lets machines with a late clock take a new certificate at once.
	clockSkew = time.Hour
	// serialBits is what certificate authorities use.
	serialBits = 128
)

// Certificates writes into dir a certificate authority of its own, tls/ca.pem, and a
// certificate for the servers at hosts (names or addresses), tls/server.pem with
// tls/server-key.pem, besides tls.conf, which the server includes. The authority's
// key is not kept: a renewal makes all of it anew, and clients get the new ca.pem.
// at is the folder as the servers have it; "" is dir itself.
func Certificates(dir string, hosts []string, at string) error {
	if at == "" {
		// A server looks for them from its own working folder.
		var err error
		if at, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("find the folder for the certificates: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o755); err != nil { //nolint:gosec // the certificates are public; the key has a mode of its own
		return fmt.Errorf("make a folder for the certificates: %w", err)
	}
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	serial := func() (*big.Int, error) { return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)) }
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Ledgerline NATS authority"}, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if ca.SerialNumber, err = serial(); err != nil {
		return fmt.Errorf("make the authority: %w", err)
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("make the authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the server's key: %w", err)
	}
	// Servers of a cluster are each other's clients.
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Ledgerline NATS server"}, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	if server.SerialNumber, err = serial(); err != nil {
		return fmt.Errorf("make the server's certificate: %w", err)
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("make the server's certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write the server's key: %w", err)
	}
	for _, file := range []struct {
		name, kind string
		der        []byte
		mode       os.FileMode
	}{
		{"ca.pem", "CERTIFICATE", caDER, publicFile},
		{"server.pem", "CERTIFICATE", serverDER, publicFile},
		{"server-key.pem", "PRIVATE KEY", keyDER, secretFile},
	} {
		text := pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.der})
		if err := os.WriteFile(filepath.Join(dir, "tls", file.name), text, file.mode); err != nil {
			return fmt.Errorf("write %s: %w", file.name, err)
		}
	}
	text := strings.Join([]string{
		"# Written by scripts/nats-auth.",
		"tls {", `  cert_file: "` + filepath.Join(at, "tls", "server.pem") + `"`, `  key_file: "` + filepath.Join(at, "tls", "server-key.pem") + `"`,
		`  ca_file: "` + filepath.Join(at, "tls", "ca.pem") + `"`, "}", "",
	}, "\n")
	if err := os.WriteFile(filepath.Join(dir, "tls.conf"), []byte(text), publicFile); err != nil {
		return fmt.Errorf("write tls.conf: %w", err)
	}
	return nil
}

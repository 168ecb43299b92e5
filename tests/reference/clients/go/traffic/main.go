// A writer, a reader and a watcher by etcd's own client, which live through what is done to a cluster.
//
// The writer puts one key after the other, and makes a put again until it is acknowledged: what a client's retry hides
// is counted, what it does not hide is a failure. The reader asks each member in turn, and never a second time; so do
// newcomers, where wanted, each by a connection of its own. Four times a second a line says how far they are; the last
// one, after the end of the input, says everything. How long the writer insists on a put, and the watcher waits for the
// last events, is the caller's to say.
//
// Certificates and authorities are read for every handshake, as they may be replaced meanwhile.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	callTimeout  = 2 * time.Second
	pause        = 5 * time.Millisecond
	arrivalPause = 100 * time.Millisecond
	reportPeriod = 250 * time.Millisecond
)

type config struct {
	Endpoints     []string
	CA, Cert, Key string
	User          string
	Password      string
	Prefix        string
	Newcomers     bool
	InsistSeconds int
}

type report struct {
	Acknowledged  int               `json:"acknowledged"`
	Retried       []string          `json:"retried"`
	WriteFailures []string          `json:"write_failures"`
	Reads         int               `json:"reads"`
	Newcomers     int               `json:"newcomers"`
	ReadFailures  []string          `json:"read_failures"`
	Events        int               `json:"events"`
	WatchFaults   []string          `json:"watch_faults"`
	Roots         map[string]string `json:"roots"`
	SlowestPut    float64           `json:"slowest_put_seconds"`
}

type traffic struct {
	sync.Mutex
	report
	given  config
	ending context.Context
	puts   map[string]int64
	seen   map[int64]bool // revisions
	last   int64
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func (t *traffic) insist() time.Duration {
	return time.Duration(t.given.InsistSeconds) * time.Second
}

// tlsConfig trusts what stands in the file of authorities when a handshake is made, and notes which one it was.
func (t *traffic) tlsConfig() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection below does it, with the authorities of this moment
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.given.Cert, t.given.Key)
			return &pair, err
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			text, err := os.ReadFile(t.given.CA)
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(text)
			between := x509.NewCertPool()
			for _, certificate := range state.PeerCertificates[1:] {
				between.AddCert(certificate)
			}
			leaf := state.PeerCertificates[0]
			chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
			if err != nil {
				return err
			}
			root := sha256.Sum256(chains[0][len(chains[0])-1].Raw)
			// For an IP address the state does not tell which one was dialled.
			for _, endpoint := range t.given.Endpoints {
				if at, err := url.Parse(endpoint); err == nil && leaf.VerifyHostname(at.Hostname()) == nil {
					t.Lock()
					t.Roots[endpoint] = hex.EncodeToString(root[:])
					t.Unlock()
					return nil
				}
			}
			return fmt.Errorf("the certificate of %v is no member's", leaf.Subject)
		},
	}
}

func (t *traffic) connect(endpoints []string, attempts uint) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		TLS:                  t.tlsConfig(),
		Username:             t.given.User,
		Password:             t.given.Password,
		MaxUnaryRetries:      attempts,
		DialKeepAliveTime:    2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		Logger:               zap.NewNop(),
	})
	must(err)
	return client
}

// write puts a key and insists on it. False at the end.
func (t *traffic) write(client *clientv3.Client, number int) bool {
	key := fmt.Sprintf("%s%06d", t.given.Prefix, number)
	begun := time.Now()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		answer, err := client.Put(ctx, key, key)
		cancel()
		t.Lock()
		if err == nil {
			t.Acknowledged++
			t.puts[key] = answer.Header.Revision
			t.SlowestPut = max(t.SlowestPut, time.Since(begun).Seconds())
			t.Unlock()
			return true
		}
		said := fmt.Sprintf("%s %s: %v", time.Now().UTC().Format("15:04:05.000"), key, err)
		late := time.Since(begun) > t.insist()
		if late {
			t.WriteFailures = append(t.WriteFailures, said)
		} else {
			t.Retried = append(t.Retried, said)
		}
		t.Unlock()
		if late || t.ending.Err() != nil {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (t *traffic) writer() {
	client := t.connect(t.given.Endpoints, 0)
	defer client.Close()
	for number := 0; t.ending.Err() == nil; number++ {
		t.write(client, number)
		time.Sleep(pause)
	}
}

// reader asks once each time: no attempt of the client's is made again.
func (t *traffic) reader() {
	client := t.connect(t.given.Endpoints, 1)
	defer client.Close()
	for t.ending.Err() == nil {
		t.read(client)
		time.Sleep(pause)
	}
}

func (t *traffic) read(client *clientv3.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	_, err := client.Get(ctx, t.given.Prefix)
	cancel()
	t.Lock()
	defer t.Unlock()
	t.Reads++
	if err != nil {
		said := fmt.Sprintf("%s %v: %v", time.Now().UTC().Format("15:04:05.000"), client.Endpoints(), err)
		t.ReadFailures = append(t.ReadFailures, said)
	}
}

// newcomers meet one member after the other, each by a handshake of its own, and ask once.
func (t *traffic) newcomers() {
	for turn := 0; t.ending.Err() == nil; turn++ {
		client := t.connect(t.given.Endpoints[turn%len(t.given.Endpoints):][:1], 1)
		t.read(client)
		must(client.Close())
		t.Lock()
		t.Newcomers++
		t.Unlock()
		time.Sleep(arrivalPause)
	}
}

// watcher is told of every event once, in order; a watch that the server ends is made again where it stood.
func (t *traffic) watcher(client *clientv3.Client, revision int64) {
	t.last = revision - 1
	for {
		ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
		for answer := range client.Watch(ctx, t.given.Prefix, clientv3.WithPrefix(), clientv3.WithRev(t.last+1)) {
			t.Lock()
			if answer.CompactRevision != 0 {
				t.WatchFaults = append(t.WatchFaults, fmt.Sprint("compacted at ", answer.CompactRevision))
			}
			for _, event := range answer.Events {
				t.Events++
				if event.Kv.ModRevision <= t.last {
					fault := fmt.Sprintf("revision %d came after %d", event.Kv.ModRevision, t.last)
					t.WatchFaults = append(t.WatchFaults, fault)
				}
				t.last = event.Kv.ModRevision
				t.seen[event.Kv.ModRevision] = true
			}
			t.Unlock()
		}
		cancel()
		time.Sleep(50 * time.Millisecond)
	}
}

// missing waits until the watcher was told of everything acknowledged, and says what it was never told.
func (t *traffic) missing() []string {
	var lacking []string
	for end := time.Now().Add(t.insist()); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		t.Lock()
		lacking = nil
		for key, revision := range t.puts {
			if !t.seen[revision] {
				lacking = append(lacking, fmt.Sprintf("%s at %d was not told", key, revision))
			}
		}
		t.Unlock()
		if lacking == nil {
			break
		}
	}
	return lacking
}

func (t *traffic) say() {
	t.Lock()
	defer t.Unlock()
	must(json.NewEncoder(os.Stdout).Encode(t.report))
}

func main() {
	t := &traffic{puts: map[string]int64{}, seen: map[int64]bool{}}
	t.report = report{
		Retried: []string{}, WriteFailures: []string{}, ReadFailures: []string{}, WatchFaults: []string{},
		Roots: map[string]string{},
	}
	must(json.Unmarshal([]byte(os.Args[1]), &t.given))
	watching := t.connect(t.given.Endpoints, 0)
	defer watching.Close()
	ctx, cancel := context.WithTimeout(context.Background(), t.insist())
	answer, err := watching.Get(ctx, t.given.Prefix)
	cancel()
	must(err)

	ending, end := context.WithCancel(context.Background())
	t.ending = ending
	var work sync.WaitGroup
	work.Go(t.writer)
	work.Go(t.reader)
	if t.given.Newcomers {
		work.Go(t.newcomers)
	}
	go t.watcher(watching, answer.Header.Revision+1) // until the process ends

	done := make(chan struct{})
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		must(err)
		close(done)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(reportPeriod):
			t.say()
		}
	}
	end()
	work.Wait()
	t.WatchFaults = append(t.WatchFaults, t.missing()...)
	t.say()
}

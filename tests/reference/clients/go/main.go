// The main calls of etcd's own client, before and after the leader dies; see tests/interop/test_foreign_clients.py.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

type config struct {
	Endpoints      []string
	CA, Cert, Key  string
	User, Password string
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

// insist makes a call until it succeeds: after a leader's death calls fail for a while.
func insist(call func(context.Context) error) {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err = call(ctx)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	panic(err)
}

func connect(given config) *clientv3.Client {
	pair, err := tls.LoadX509KeyPair(given.Cert, given.Key)
	must(err)
	ca, err := os.ReadFile(given.CA)
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   given.Endpoints,
		DialTimeout: 5 * time.Second,
		TLS:         &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots},
		Username:    given.User,
		Password:    given.Password,
	})
	must(err)
	return client
}

func put(client *clientv3.Client, key, value string) {
	insist(func(ctx context.Context) error {
		_, err := client.Put(ctx, key, value)
		return err
	})
	insist(func(ctx context.Context) error {
		answer, err := client.Get(ctx, key)
		if err == nil {
			check(string(answer.Kvs[0].Value) == value, "the value that was put")
		}
		return err
	})
}

func txn(client *clientv3.Client, key string) {
	insist(func(ctx context.Context) error {
		answer, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.Version(key), "=", 0)).
			Then(clientv3.OpPut(key, "new")).
			Else(clientv3.OpGet(key)).Commit()
		if err == nil && !answer.Succeeded {
			check(string(answer.Responses[0].GetResponseRange().Kvs[0].Value) == "new", "what the first attempt put")
		}
		return err
	})
}

func main() {
	var given config
	must(json.Unmarshal([]byte(os.Args[1]), &given))
	client := connect(given)
	defer client.Close()
	background := context.Background()

	put(client, "go/k", "1")
	txn(client, "go/t1")
	watch := client.Watch(background, "go/w/", clientv3.WithPrefix())
	put(client, "go/w/1", "one")
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	_, err = client.Put(background, "go/leased", "x", clientv3.WithLease(session.Lease()))
	must(err)
	mutex := concurrency.NewMutex(session, "go/lock")
	must(mutex.Lock(background))
	election := concurrency.NewElection(session, "go/election")
	must(election.Campaign(background, "me"))
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)

	put(client, "go/k", "2")
	txn(client, "go/t2")
	put(client, "go/w/2", "two")
	seen := map[string]int{}
	for len(seen) < 2 {
		select {
		case answer := <-watch:
			must(answer.Err())
			for _, event := range answer.Events {
				seen[string(event.Kv.Value)]++
			}
		case <-time.After(20 * time.Second):
			panic(fmt.Sprint("events are missing: ", seen))
		}
	}
	check(seen["one"] == 1, "the first event, once")
	insist(func(ctx context.Context) error {
		answer, err := client.Get(ctx, "go/leased")
		check(err != nil || len(answer.Kvs) == 1, "the lease lives")
		return err
	})
	other, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	contender := concurrency.NewMutex(other, "go/lock")
	insist(func(ctx context.Context) error {
		err := contender.TryLock(ctx)
		check(err != nil, "nobody shares the lock")
		if err == concurrency.ErrLocked {
			return nil
		}
		return err
	})
	insist(mutex.Unlock)
	insist(contender.Lock)
	insist(func(ctx context.Context) error {
		leader, err := election.Leader(ctx)
		check(err != nil || string(leader.Kvs[0].Value) == "me", "the leader is still elected")
		return err
	})
	insist(election.Resign)
	fmt.Println("done")
}

// One of the five writers of failover.py, with the Go driver; see writer.py for what it prints.
//
// go_writer URI CA COLLECTION
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func say(words ...any) {
	texts := make([]string, len(words))
	for n, word := range words {
		texts[n] = strings.ReplaceAll(fmt.Sprint(word), "\n", " ")
	}
	// One write a line: lines of several goroutines don't mix.
	fmt.Print(strings.Join(texts, "\t") + "\n")
}

func write(things *mongo.Collection, number int) {
	say("start", number)
	_, err := things.InsertOne(context.Background(), bson.D{{Key: "_id", Value: number}})
	if err == nil {
		say("ok", number)
		return
	}
	code, labels := "", []string{}
	var server mongo.ServerError
	if errors.As(err, &server) {
		code = fmt.Sprint(server.ErrorCodes())
	}
	for _, label := range []string{"RetryableWriteError", "NoWritesPerformed", "NetworkError", "SystemOverloadedError"} {
		var labeled mongo.LabeledError
		if errors.As(err, &labeled) && labeled.HasErrorLabel(label) {
			labels = append(labels, label)
		}
	}
	say("error", number, fmt.Sprintf("%T", err), code, strings.Join(labels, ","), err)
}

func main() {
	pem, err := os.ReadFile(os.Args[2])
	fail(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client, err := mongo.Connect(options.Client().ApplyURI(os.Args[1]).SetTLSConfig(&tls.Config{RootCAs: roots}))
	fail(err)
	things := client.Database("lab").Collection(os.Args[3])
	ended := make(chan struct{})
	go func() {
		_, _ = io.ReadAll(os.Stdin)
		close(ended)
	}()
	var writes sync.WaitGroup
	tick := time.NewTicker(200 * time.Millisecond)
	for number := 0; ; number++ {
		select {
		case <-ended:
			writes.Wait()
			return
		case <-tick.C:
		}
		writes.Add(1)
		go func() {
			defer writes.Done()
			write(things, number)
		}()
	}
}

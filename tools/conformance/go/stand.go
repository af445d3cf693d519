// The test bench: where the server is, how to call its API, how to cut the connection to it; and the frame of a scenario.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"sync"
	"time"

	centrifuge "github.com/centrifugal/centrifuge-go"
)

const wait = 10 * time.Second

func stand(name string) string { return os.Getenv("STAND_" + name) }

func now() int64 { return time.Now().Unix() }

type object = map[string]any

// failure ends a scenario; it is what the scaffold recovers.
type failure struct{ text string }

func fail(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func equal(got, wanted any) {
	if !reflect.DeepEqual(got, wanted) {
		fail("got %#v and wanted %#v", got, wanted)
	}
}

func jwt(claims object) string {
	encoding := base64.RawURLEncoding
	body, err := json.Marshal(claims)
	must(err)
	signed := encoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encoding.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(stand("SECRET")))
	mac.Write([]byte(signed))
	return signed + "." + encoding.EncodeToString(mac.Sum(nil))
}

func post(url string, body []byte) []byte {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	must(err)
	request.Header.Set("X-API-Key", stand("API_KEY"))
	answer, err := http.DefaultClient.Do(request)
	must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(err)
	return text
}

// api makes a call of the server API that has to succeed.
func api(method string, body object) {
	sent, err := json.Marshal(body)
	must(err)
	text := post(stand("API")+"/"+method, sent)
	var answer struct{ Result json.RawMessage }
	must(json.Unmarshal(text, &answer))
	if answer.Result == nil {
		fail("%s: %s", method, text)
	}
}

func publish(channel string, data any) { api("publish", object{"channel": channel, "data": data}) }

func relay(state string) { post(stand("CONTROL")+"/"+state, nil) }

// event is something that happened to a client or a subscription, with what came with it.
type event struct {
	name string
	with any
}

// seen is what happened so far. Handlers of the SDK write it, the scenario reads it.
type seen struct {
	sync.Mutex
	events []event
}

func (s *seen) add(name string, with any) {
	s.Lock()
	defer s.Unlock()
	s.events = append(s.events, event{name, with})
}

func (s *seen) all(name string) []any {
	s.Lock()
	defer s.Unlock()
	var found []any
	for _, event := range s.events {
		if event.name == name {
			found = append(found, event.with)
		}
	}
	return found
}

// wait gives what came with the n-th event of a name, once it has happened.
func (s *seen) wait(name string, n int) any {
	until(fmt.Sprintf("%s (number %d)", name, n), func() bool { return len(s.all(name)) >= n })
	return s.all(name)[n-1]
}

// got is the data of the publications so far.
func (s *seen) got() []any {
	var values []any
	for _, with := range s.all("publication") {
		var value any
		must(json.Unmarshal(with.(centrifuge.Publication).Data, &value))
		values = append(values, value)
	}
	return values
}

func until(what string, probe func() bool) {
	deadline := time.Now().Add(wait)
	for !probe() {
		if time.Now().After(deadline) {
			fail("%v passed without %s", wait, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type kit struct {
	protobuf  bool
	tag, user string
	clients   []*centrifuge.Client
}

type client struct {
	*centrifuge.Client
	seen *seen
}

type subscription struct {
	*centrifuge.Subscription
	seen *seen
}

func (k *kit) client(url string, config centrifuge.Config) client {
	config.MinReconnectDelay, config.MaxReconnectDelay = 20*time.Millisecond, 100*time.Millisecond
	made := centrifuge.NewJsonClient
	if k.protobuf {
		made = centrifuge.NewProtobufClient
	}
	c := client{made(url, config), &seen{}}
	c.OnConnecting(func(e centrifuge.ConnectingEvent) { c.seen.add("connecting", e) })
	c.OnConnected(func(e centrifuge.ConnectedEvent) { c.seen.add("connected", e) })
	c.OnDisconnected(func(e centrifuge.DisconnectedEvent) { c.seen.add("disconnected", e) })
	c.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) { c.seen.add("subscribed", e) })
	c.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) { c.seen.add("unsubscribed", e) })
	c.OnPublication(func(e centrifuge.ServerPublicationEvent) { c.seen.add("publication", e.Publication) })
	k.clients = append(k.clients, c.Client)
	return c
}

func (k *kit) connected(url string, config centrifuge.Config) client {
	c := k.client(url, config)
	must(c.Connect())
	c.seen.wait("connected", 1)
	return c
}

// as is a client of this user, connected.
func (k *kit) as(user string) client {
	return k.connected(stand("URL"), centrifuge.Config{Token: jwt(object{"sub": user, "info": object{"of": user}})})
}

func (k *kit) subscription(c client, channel string, config centrifuge.SubscriptionConfig) subscription {
	sub, err := c.NewSubscription(channel, config)
	must(err)
	s := subscription{sub, &seen{}}
	s.OnSubscribing(func(e centrifuge.SubscribingEvent) { s.seen.add("subscribing", e) })
	s.OnSubscribed(func(e centrifuge.SubscribedEvent) { s.seen.add("subscribed", e) })
	s.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { s.seen.add("unsubscribed", e) })
	s.OnPublication(func(e centrifuge.PublicationEvent) { s.seen.add("publication", e.Publication) })
	s.OnJoin(func(e centrifuge.JoinEvent) { s.seen.add("join", e.User) })
	s.OnLeave(func(e centrifuge.LeaveEvent) { s.seen.add("leave", e.User) })
	must(s.Subscribe())
	return s
}

func (k *kit) subscribed(c client, channel string, config centrifuge.SubscriptionConfig) subscription {
	s := k.subscription(c, channel, config)
	s.seen.wait("subscribed", 1)
	return s
}

func pack(value any) []byte {
	data, err := json.Marshal(value)
	must(err)
	return data
}

// refusal is what an SDK call was refused with.
func refusal(err error) string {
	var refused *centrifuge.Error
	if !errors.As(err, &refused) {
		fail("not refused by the server: %v", err)
	}
	return fmt.Sprintf("%d %s", refused.Code, refused.Message)
}

func soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	time.AfterFunc(wait, cancel)
	return ctx
}

// run plays a scenario and gives why it failed, or nothing.
func (k *kit) run(scenario func(*kit)) (why string) {
	defer func() {
		for _, client := range k.clients {
			client.Close()
		}
		if cause := recover(); cause != nil {
			failed, ok := cause.(failure)
			if !ok {
				panic(cause)
			}
			why = failed.text
		}
	}()
	scenario(k)
	return ""
}

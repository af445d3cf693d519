// The Go SDK, unmodified, doing what an application does with it. Every scenario runs once with JSON and once with
// Protobuf, on a server that stand.mjs has started. The last line is "N passed, N failed".
package main

import (
	"fmt"
	"os"
	"sort"

	centrifuge "github.com/centrifugal/centrifuge-go"
)

var noSubscription = centrifuge.SubscriptionConfig{}

var scenarios = []struct {
	name string
	run  func(*kit)
}{
	{"anonymous connect", func(k *kit) {
		c := k.connected(stand("URL"), centrifuge.Config{})
		if c.seen.wait("connected", 1).(centrifuge.ConnectedEvent).ClientID == "" {
			fail("no client id")
		}
	}},
	{"a token names the user", func(k *kit) {
		c := k.as(k.user)
		s := k.subscribed(c, "open:"+k.tag, noSubscription)
		presence, err := s.Presence(soon())
		must(err)
		me := presence.Clients[c.seen.wait("connected", 1).(centrifuge.ConnectedEvent).ClientID]
		equal([]string{me.User, string(me.ConnInfo)}, []string{k.user, `{"of":"` + k.user + `"}`})
	}},
	{"a wrong token is refused for good", func(k *kit) {
		token := jwt(object{"sub": k.user})
		c := k.client(stand("URL"), centrifuge.Config{Token: token[:len(token)-4] + "AAAA"})
		must(c.Connect())
		equal(c.seen.wait("disconnected", 1), centrifuge.DisconnectedEvent{Code: 3500, Reason: "invalid token"})
	}},
	{"an expired token is replaced", func(k *kit) {
		k.connected(stand("URL"), centrifuge.Config{
			Token:    jwt(object{"sub": k.user, "exp": now() - 10}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) { return jwt(object{"sub": k.user}), nil },
		})
	}},
	{"a token is refreshed in time", func(k *kit) {
		asked := &seen{}
		c := k.connected(stand("URL"), centrifuge.Config{
			Token: jwt(object{"sub": k.user, "exp": now() + 2}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
				asked.add("token", nil)
				return jwt(object{"sub": k.user, "exp": now() + 300}), nil
			},
		})
		asked.wait("token", 1)
		_, err := c.Publish(soon(), "open:"+k.tag, pack(1))
		must(err)
		equal(len(c.seen.all("connecting")), 1)
	}},
	{"subscribe and publish", subscribeAndPublish},
	{"what is not allowed", func(k *kit) {
		c := k.as(k.user)
		_, err := c.Publish(soon(), "shut:"+k.tag, pack(1))
		equal(refusal(err), "103 permission denied")
		_, err = c.History(soon(), "open:"+k.tag)
		equal(refusal(err), "108 not available")
		_, err = c.Presence(soon(), "nowhere:"+k.tag)
		equal(refusal(err), "102 unknown channel")
		s := k.subscription(c, "shut:"+k.tag, noSubscription)
		equal(s.seen.wait("unsubscribed", 1), centrifuge.UnsubscribedEvent{Code: 103, Reason: "permission denied"})
	}},
	{"a subscription token", func(k *kit) {
		channel := "shut:" + k.tag
		s := k.subscribed(k.as(k.user), channel, centrifuge.SubscriptionConfig{Token: jwt(object{"sub": k.user, "channel": channel})})
		publish(channel, 1)
		s.seen.wait("publication", 1)
	}},
	{"presence, joins and leaves", presence},
	{"history", history},
	{"recovery over a severed connection", recovery},
	{"deltas", func(k *kit) {
		channel := "diff:" + k.tag
		s := k.subscribed(k.as(k.user), channel, centrifuge.SubscriptionConfig{Delta: centrifuge.DeltaTypeFossil})
		var bodies []any
		for number := range 5 {
			body := object{"number": float64(number), "rest": "always the same, always the same, always the same"}
			bodies = append(bodies, body)
			publish(channel, body)
		}
		s.seen.wait("publication", 5)
		equal(s.seen.got(), bodies)
	}},
	{"a filter by tags", func(k *kit) {
		channel := "tags:" + k.tag
		s := k.subscribed(k.as(k.user), channel, centrifuge.SubscriptionConfig{TagsFilter: centrifuge.FilterEq("kind", "goal")})
		for number, kind := range []string{"goal", "foul", "goal"} {
			api("publish", object{"channel": channel, "data": number, "tags": object{"kind": kind}})
		}
		s.seen.wait("publication", 2)
		equal(s.seen.got(), []any{0.0, 2.0})
	}},
	{"rpc", func(k *kit) {
		c := k.as(k.user)
		result, err := c.RPC(soon(), "sum", pack(object{"terms": []int{1, 2}}))
		must(err)
		equal(string(result.Data), `{"method":"sum","data":{"terms":[1,2]}}`)
		_, err = c.RPC(soon(), "fail", pack(object{}))
		equal(refusal(err), "1234 no")
	}},
	{"a server-side subscription", func(k *kit) {
		channel := "rec:" + k.tag
		c := k.connected(stand("URL"), centrifuge.Config{Token: jwt(object{"sub": k.user, "channels": []string{channel}})})
		equal(c.seen.wait("subscribed", 1).(centrifuge.ServerSubscribedEvent).Channel, channel)
		publish(channel, 1)
		c.seen.wait("publication", 1)
		api("unsubscribe", object{"user": k.user, "channel": channel})
		equal(c.seen.wait("unsubscribed", 1), centrifuge.ServerUnsubscribedEvent{Channel: channel})
	}},
	{"disconnect by the server", func(k *kit) {
		c := k.as(k.user)
		api("disconnect", object{"user": k.user, "disconnect": object{"code": 4000, "reason": "again"}})
		equal(c.seen.wait("connecting", 2), centrifuge.ConnectingEvent{Code: 4000, Reason: "again"})
		c.seen.wait("connected", 2)
		api("disconnect", object{"user": k.user})
		equal(c.seen.wait("disconnected", 1), centrifuge.DisconnectedEvent{Code: 3503, Reason: "force disconnect"})
	}},
}

func subscribeAndPublish(k *kit) {
	s := k.subscribed(k.as("listener"), "open:"+k.tag, noSubscription)
	data := object{"text": `ünïcode "quoted"`, "list": []any{1.0, nil, object{"a": []any{}}}}
	_, err := k.as("speaker").Publish(soon(), "open:"+k.tag, pack(data))
	must(err)
	equal(s.seen.wait("publication", 1).(centrifuge.Publication).Info.User, "speaker")
	api("publish", object{"channel": "open:" + k.tag, "data": "the server", "tags": object{"k": "v"}})
	equal(s.seen.wait("publication", 2).(centrifuge.Publication).Tags, map[string]string{"k": "v"})
	equal(s.seen.got(), []any{data, "the server"})
}

func presence(k *kit) {
	visitor := k.as("visitor")
	s := k.subscribed(k.as(k.user), "room:"+k.tag, noSubscription)
	k.subscribed(visitor, "room:"+k.tag, noSubscription)
	s.seen.wait("join", 2)
	stats, err := s.PresenceStats(soon())
	must(err)
	equal([]int{stats.NumClients, stats.NumUsers}, []int{2, 2})
	all, err := s.Presence(soon())
	must(err)
	var users []string
	for _, info := range all.Clients {
		users = append(users, info.User)
	}
	sort.Strings(users)
	equal(users, []string{k.user, "visitor"})
	must(visitor.Disconnect())
	equal(s.seen.wait("leave", 1), "visitor")
}

func history(k *kit) {
	s := k.subscribed(k.as(k.user), "rec:"+k.tag, noSubscription)
	for number := 1; number <= 5; number++ {
		_, err := s.Publish(soon(), pack(number))
		must(err)
	}
	read := func(options ...centrifuge.HistoryOption) (centrifuge.HistoryResult, string) {
		result, err := s.History(soon(), options...)
		must(err)
		numbers := ""
		for _, publication := range result.Publications {
			numbers += string(publication.Data)
		}
		return result, numbers
	}
	top, none := read()
	equal([]any{top.Offset, none}, []any{uint64(5), ""})
	_, all := read(centrifuge.WithHistoryLimit(-1))
	_, newest := read(centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true))
	since := centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 2, Epoch: top.Epoch})
	_, after := read(centrifuge.WithHistoryLimit(2), since)
	equal([]string{all, newest, after}, []string{"12345", "54", "34"})
	other := centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 2, Epoch: "other"})
	_, err := s.History(soon(), centrifuge.WithHistoryLimit(2), other)
	equal(refusal(err), "112 unrecoverable position")
}

func recovery(k *kit) {
	channel := "rec:" + k.tag
	c := k.connected(stand("RELAY_URL"), centrifuge.Config{Token: jwt(object{"sub": k.user})})
	s := k.subscribed(c, channel, noSubscription)
	publish(channel, 1)
	s.seen.wait("publication", 1)
	func() {
		defer relay("up")
		relay("down")
		c.seen.wait("connecting", 2)
		for number := 2; number <= 4; number++ {
			publish(channel, number)
		}
	}()
	told := s.seen.wait("subscribed", 2).(centrifuge.SubscribedEvent)
	equal([]bool{told.WasRecovering, told.Recovered}, []bool{true, true})
	publish(channel, 5)
	s.seen.wait("publication", 5)
	equal(s.seen.got(), []any{1.0, 2.0, 3.0, 4.0, 5.0})
}

func main() {
	passed, failed := 0, 0
	for _, encoding := range []string{"json", "protobuf"} {
		for number, scenario := range scenarios {
			tag := fmt.Sprintf("go-%s-%d", encoding, number)
			k := &kit{protobuf: encoding == "protobuf", tag: tag, user: "user-" + tag}
			if why := k.run(scenario.run); why != "" {
				failed++
				fmt.Printf("FAILED  %s [%s]: %s\n", scenario.name, encoding, why)
			} else {
				passed++
				fmt.Printf("ok      %s [%s]\n", scenario.name, encoding)
			}
		}
	}
	fmt.Printf("sdk-go: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

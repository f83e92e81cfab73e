package main

// value names what a benchmark reports.
type value struct{ bench, unit string }

// figure is a line of the table: a value, or its ratio to another.
type figure struct {
	name  string
	of    value
	by    value   // zero: the value itself
	limit float64 // 0: none
	most  bool    // the limit is the greatest that is good, else the least
}

func (f *figure) bound() string {
	switch {
	case f.limit == 0:
		return ""
	case f.most:
		return "≤ " + number(f.limit)
	}
	return "≥ " + number(f.limit)
}

func (f *figure) suffix() string {
	if f.by != (value{}) {
		return "×"
	}
	return " " + f.of.unit
}

func path(name string) value { return value{"Path/" + name, "msgs/s"} }

// figures are what the project has set itself, and beside it what others do.
var figures = slicesOf(
	eachSize(func(size string) []figure {
		return []figure{
			{name: "path " + size, of: path("limits/" + size), limit: 1e6},
			{name: "… of a bare channel", of: path("limits/" + size), by: path("bare/" + size), limit: 0.25},
			{name: "… allocations a message", of: value{"Path/limits/" + size, "allocs/msg"}, limit: 2, most: true},
			{name: "… bytes a message", of: value{"Path/limits/" + size, "B/op"}},
			{name: "… without copies, of a bare channel", of: path("nocopy/" + size), by: path("bare/" + size)},
			{name: "… confirms, of without", of: path("confirms/" + size), by: path("limits/" + size), limit: 0.6},
			{name: "… prefetch 1", of: path("prefetch1/" + size), limit: 300e3},
			{name: "… chan, of iterator", of: path("chan/" + size), by: path("limits/" + size), limit: 0.8},
			{name: "… queue without arguments", of: path("plain/" + size)},
			{name: "… Get", of: path("get/" + size)},
			{name: "… store of five methods", of: path("five/" + size)},
			{name: "… bare channel", of: path("bare/" + size)},
			{name: "… Watermill gochannel", of: value{"Peer/watermill-gochannel/" + size, "msgs/s"}},
			{name: "… Go CDK mempubsub", of: value{"Peer/mempubsub/" + size, "msgs/s"}},
			{name: "… RabbitMQ", of: value{"Peer/rabbitmq/" + size, "msgs/s"}},
		}
	}),
	[]figure{
		latency("sleeping", "p50-ns", 2), latency("sleeping", "p99-ns", 3),
		latency("spinning", "p50-ns", 2), latency("spinning", "p99-ns", 3),
		{name: "fanout to 100 queues", of: value{"Fanout/queues=100/nocopy=false", "ns/copy"}, limit: 500, most: true},
		{name: "… without copies", of: value{"Fanout/queues=100/nocopy=true", "ns/copy"}},
		{name: "… allocated", of: value{"Fanout/queues=100/nocopy=true", "B/copy"}},
		{name: "10,000 idle queues with consumers", of: value{"Idle", "MB"}, limit: 300, most: true},
		{name: "… processor", of: value{"Idle", "cpu-%"}, limit: 1, most: true},
		{name: "… calls of the store", of: value{"Idle", "calls/s"}},
		{name: "unacked message", of: value{"Unacked", "B/unacked"}, limit: 150, most: true},
		{name: "first Get, a million waiting, of ten", of: value{"Backlog/waiting=1000000", "p50-ns"}, by: value{"Backlog/waiting=10", "p50-ns"}, limit: 1.25, most: true},
		{name: "headers exchange, 10,000 bindings, all", of: headers("all", "rare"), limit: 20e3, most: true},
		{name: "… all, of values that many share", of: headers("all", "common"), limit: 20e3, most: true},
		{name: "… any", of: headers("any", "rare"), limit: 20e3, most: true},
		{name: "10,000 channels of 1,000 connections", of: value{"Channels", "msgs/s"}},
		{name: "… each", of: value{"Channels", "B/channel"}},
	},
	eachSize(redis),
	[]figure{
		{name: "Redis: publishes one after the other, of a bare EVALSHA", of: value{"BesideEVALSHA", "of-bare"}, limit: 0.8},
		{name: "Redis: latency p50 at 1,000/s, of a bare client", of: value{"BesideLatency", "p50-of-bare"}, limit: 1.3, most: true},
		{name: "… p99", of: value{"BesideLatency", "p99-of-bare"}},
	},
	eachTopics("nats", "1000"), eachTopics("nats", "100000"), eachTopics("nats", "1000000"),
	eachTopics("amqp", "1000"), eachTopics("amqp", "100000"), eachTopics("amqp", "1000000"),
	[]figure{
		{name: "topics: a million inserted", of: binding("nats", "binds/s"), limit: 300e3},
		{name: "… removed", of: binding("nats", "unbinds/s"), limit: 300e3},
		{name: "… each", of: binding("nats", "B/binding"), limit: 400, most: true},
		{name: "topics of mix amqp: a million inserted", of: binding("amqp", "binds/s"), limit: 300e3},
		{name: "… removed", of: binding("amqp", "unbinds/s"), limit: 300e3},
		{name: "… each", of: binding("amqp", "B/binding"), limit: 400, most: true},
	},
)

// redis are the figures of the path on Redis.
func redis(size string) []figure {
	beside := func(unit string) value { return value{"BesideScripts/" + size, unit} }
	served := func(name string) value { return value{"Served/" + name + "/" + size, "msgs/s"} }
	return []figure{
		{name: "Redis: path " + size, of: beside("msgs/s")},
		{name: "… of the least that has leases", of: beside("of-floor"), limit: 0.5},
		{name: "… of a bare client with the same scripts", of: beside("of-bare"), limit: 0.8},
		{name: "… commands a message", of: beside("commands/msg"), limit: 0.2, most: true},
		{name: "… with confirms", of: served("dashi-redis")},
		{name: "… of watermill-redisstream", of: served("dashi-redis"), by: served("watermill-redisstream"), limit: 1},
		{name: "… of asynq", of: served("dashi-redis"), by: served("asynq"), limit: 1},
		{name: "… of RabbitMQ, persistent, with confirms", of: served("dashi-redis"), by: served("rabbitmq-confirmed"), limit: 1},
	}
}

func headers(match, values string) value {
	return value{"Headers/bindings=10000/match=" + match + "/values=" + values, "ns/op"}
}

func binding(mix, unit string) value {
	return value{"TopicBind/mix=" + mix + "/bindings=1000000", unit}
}

// eachTopics are the figures of topic matching with so many bindings; others match only what NATS can express.
func eachTopics(mix, bindings string) (figures []figure) {
	match := func(keys, unit string) value {
		return value{"TopicMatch/mix=" + mix + "/bindings=" + bindings + "/keys=" + keys, unit}
	}
	peer := func(keys, matcher string) value {
		v := match(keys, "ns/op")
		v.bench += "/matcher=" + matcher
		return v
	}
	of := "topics of mix " + mix + ", " + bindings + " bindings, "
	figures = []figure{
		{name: of + "cold keys", of: match("cold", "ns/op")},
		{name: "… cold keys, the trie alone", of: match("cold/trie", "ns/op")},
		{name: "… a match found", of: match("cold", "ns/match")},
		{name: "… allocations", of: match("cold", "allocs/op"), limit: 0.5, most: true},
		{name: "… hot keys", of: match("hot", "ns/op")},
	}
	if mix == "nats" {
		figures = append(figures,
			figure{name: "… cold, of NATS's Sublist without cache", of: match("cold", "ns/op"), by: peer("cold", "nats-sublist"), limit: 1, most: true},
			figure{name: "… cold, of NATS's gsl", of: match("cold", "ns/op"), by: peer("cold", "nats-gsl"), limit: 1, most: true},
			figure{name: "… hot, of NATS's Sublist with its cache", of: match("hot", "ns/op"), by: peer("hot", "nats-sublist-cache"), limit: 2, most: true},
		)
	}
	return figures
}

func slicesOf(parts ...[]figure) (all []figure) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func eachSize(make func(size string) []figure) []figure {
	return slicesOf(make("1x1"), make("4x4"))
}

func latency(pacer, unit string, limit float64) figure {
	return figure{
		name: "latency " + unit[:3] + ", " + pacer + " pacer, of a bare channel",
		of:   value{"Latency/dashi/" + pacer, unit}, by: value{"Latency/bare/" + pacer, unit}, limit: limit, most: true,
	}
}

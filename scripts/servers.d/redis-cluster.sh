# shellcheck shell=bash disable=SC2034,SC2153
# Redis Cluster: three masters without replicas, each with an append-only file
# that is written through at every write. They announce 127.0.0.1, so MOVED and
# CROSSSLOT are real.
#
# Ports: PORT to PORT+2 the nodes, PORT+3 to PORT+5 the cluster bus; all on 127.0.0.1.

# shellcheck source=scripts/servers.d/resp.bash
source "$HERE/servers.d/resp.bash"

DEFAULT_PORT=26479
PORTS=6
START_LIMIT=30 # seconds; it takes about 3

cluster_ports() { printf '%s\n' "$PORT" $((PORT + 1)) $((PORT + 2)); }

server_url() { printf 'redis://127.0.0.1:%s?addr=127.0.0.1:%s&addr=127.0.0.1:%s\n' "$PORT" $((PORT + 1)) $((PORT + 2)); }

# cli PORT COMMAND…: asks a node, for not longer than a few seconds.
cli() { within 10 redis-cli -h 127.0.0.1 -p "$@" </dev/null 2>/dev/null 9>&-; }

# Every node sees the whole cluster.
server_ready() {
	local p
	for p in $(cluster_ports); do
		[[ $(cli "$p" cluster info) == *cluster_state:ok* ]] || return 1
	done
}

process_get() {
	if ! command -v redis-server || ! command -v redis-cli; then apt_get redis-server redis-tools; fi >/dev/null
	if ! command -v redis-server || ! command -v redis-cli; then
		unproved "$NAME: the packages have no redis-server and redis-cli"
	fi >/dev/null
}

# node_file PORT: the name of the pid file of the node on PORT.
node_file() { if (($1 == PORT)); then echo server; else echo "node$(($1 - PORT + 1))"; fi; }

# node_start PORT: its data lies by its port, since nodes.conf has the ports of the others.
node_start() {
	local p=$1 home=$DIR/node-$1 limit
	resp_start "$(node_file "$p")" "$p" "127.0.0.1:$p [cluster]" "$home" redis-server --cluster-enabled yes \
		--cluster-config-file "$home/nodes.conf" --cluster-node-timeout 2000 --cluster-port $((p + 3)) --cluster-announce-ip 127.0.0.1 ||
		return 1
	limit=$((SECONDS + 10))
	until resp_ready "$p"; do
		kept "$(node_file "$p")" >/dev/null || { log "$NAME: node on port $p ended while starting"; return 1; }
		((SECONDS < limit)) || { log "$NAME: node on port $p does not answer"; return 1; }
		sleep 0.05
	done
}

process_start() {
	local p made=$DIR/node-$PORT/made
	# A cluster that was not made to its end is made anew.
	[[ -f $made ]] || process_forget
	for p in $(cluster_ports); do node_start "$p" || return 1; done
	if [[ ! -f $made ]]; then
		# shellcheck disable=SC2046
		within 30 redis-cli --cluster create $(cluster_ports | sed 's/^/127.0.0.1:/') --cluster-replicas 0 --cluster-yes \
			</dev/null >"$DIR/create.log" 2>&1 9>&- ||
			{ log "$NAME: no cluster: $(tail -n 1 "$DIR/create.log")"; return 1; }
		: >"$made"
	fi
}

process_stop() {
	local p
	for p in $(cluster_ports); do end_kept "$(node_file "$p")" TERM 10; done
}

process_forget() { rm -rf -- "$DIR"/node-* "$DIR/create.log"; }

# One image would have to hold three nodes.
docker_service() { :; }

server_restart() {
	process_stop
	free_from "$PORT" "$PORTS" || die "$NAME: ports from $PORT were taken meanwhile"
	process_start || die "$NAME: does not start again (see $DIR)"
	wait_ready "$START_LIMIT" || die "$NAME: does not start again (see $DIR)"
	log "$NAME: restarted on ports from $PORT"
}

# shellcheck shell=bash disable=SC2034,SC2153
# Redis: a private server with an append-only file that is written through at
# every write, so that a test may kill it; no snapshots, no configuration file.
#
# Port: PORT, on 127.0.0.1.

# shellcheck source=scripts/servers.d/resp.bash
source "$HERE/servers.d/resp.bash"

DEFAULT_PORT=26379
PORTS=1
START_LIMIT=30 # seconds; it takes a tenth of one

server_url() { printf 'redis://127.0.0.1:%s\n' "$PORT"; }

server_ready() { resp_ready "$PORT"; }

process_get() {
	command -v redis-server >/dev/null || apt_get redis-server
	command -v redis-server >/dev/null || unproved "$NAME: the package has no redis-server"
}

process_start() { resp_start server "$PORT" "127.0.0.1:$PORT" "$DIR/data" redis-server; }

process_stop() { end_kept server TERM 10; }

process_forget() { rm -rf -- "$DIR/data"; }

docker_service() { echo redis; }

# A restart is a kill: what had been answered is in the file.
server_restart() {
	if [[ $ENGINE == docker ]]; then
		compose kill redis >>"$DIR/docker.log" 2>&1 || true
		compose start redis >>"$DIR/docker.log" 2>&1
	else
		end_kept server KILL 10
		free_from "$PORT" "$PORTS" || die "$NAME: port $PORT was taken meanwhile"
		process_start || die "$NAME: does not start again (see $DIR)"
	fi
	wait_ready "$START_LIMIT" || die "$NAME: does not start again (see $DIR)"
	log "$NAME: restarted on port $PORT"
}

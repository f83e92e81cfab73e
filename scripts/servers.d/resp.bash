# shellcheck shell=bash disable=SC2153
# What servers of Redis' protocol have in common: redis.sh, redis-cluster.sh and valkey.sh source it.

# resp_ready PORT: sends PING and expects PONG. One that still loads its file says -LOADING.
resp_ready() {
	local answer=''
	{
		exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
		printf 'PING\r\n' >&3 || true
		IFS= read -r -t 5 -u 3 answer || true
		exec 3>&-
	} 2>/dev/null
	[[ $answer == +PONG* ]]
}

# resp_start FILE PORT TEXT HOME PROGRAM ARGUMENTS…: starts a server in HOME and keeps its pid in FILE. It is written through at
# every write, so that a test may kill it; no snapshots, no configuration file. The server writes its address into its command
# line, by which we know it again: the port is ours as long as it lives.
resp_start() {
	local file=$1 port=$2 text=$3 home=$4 program=$5 pid limit
	shift 5
	mkdir -p -- "$home"
	(
		cd -- "$home" || exit 1
		exec setsid "$program" --port "$port" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync always \
			--dir "$home" --logfile "$home/server.log" "$@" </dev/null >>"$home/start.log" 2>&1 9>&-
	) &
	pid=$!
	limit=$((SECONDS + 10))
	until pid_is "$pid" "$text"; do
		kill -0 "$pid" 2>/dev/null || { log "$NAME: ended at once on port $port: $(tail -n 1 "$home/server.log" 2>/dev/null)"; return 1; }
		((SECONDS < limit)) || { log "$NAME: no server on port $port in 10 s"; kill "$pid"; return 1; }
		sleep 0.02
	done
	keep_pid "$file" "$pid" "$text"
}

#!/bin/bash
#
# The calls of a shell client of the dbjobs protocol when nothing is to do (wire.md section 4), in the way such clients make
# them: one socat for each, which closes its side behind the request and waits for the end of the connection. The body is
# sealed once and given, which real clients do for every call.
#
# Input: ADDRESS (socat's), HOST, SERVER_PATH, SEALED, TASKS. Exit status 1 when an answer did not come or was not understood.

# exchange makes one call of path $1 and sets STATUS and ANSWER.
exchange() {
	local reply
	reply=$(printf 'POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
		"$1" "$HOST" "${TOKEN:+Authorization: Bearer $TOKEN$'\r\n'}" "${#SEALED}" "$SEALED" | socat - "$ADDRESS")
	reply=${reply//$'\r'/}
	STATUS=${reply:9:3} ANSWER=${reply#*$'\n\n'}
}

TOKEN=''
exchange "$SERVER_PATH/secret-login"
[[ $STATUS == 200 && $ANSWER =~ \"token\":\"([^\"]+)\" ]] || { echo "login: $STATUS $ANSWER" >&2; exit 1; }
TOKEN=${BASH_REMATCH[1]}
for what in jobs-check jobs-upgrade $TASKS; do
	exchange "$SERVER_PATH/needs/$what"
	[[ $STATUS == 500 && $ANSWER == false ]] || { echo "needs/$what: $STATUS $ANSWER" >&2; exit 1; }
done

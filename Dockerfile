# drydock          the program alone, for the roles scheduler, gateway and alert when nothing runs beside it
# drydock-full     with what dumps, drills, restores, archives and SSH need; what compose.yaml uses
# database         MariaDB with the dbjobs script beside it, for compose.yaml
#
#   docker build --target drydock-full -t drydock-full .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown COMMIT= DATE=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$DATE" \
      -o /out/drydock ./cmd/drydock \
 && install -d -m 0700 -o 10001 -g 10001 /out/var/lib/drydock \
 && install -d -m 1777 /out/tmp

FROM scratch AS drydock
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /zoneinfo.zip
COPY --from=build /out/ /
ENV PATH=/ ZONEINFO=/zoneinfo.zip HOME=/var/lib/drydock
USER 10001:10001
VOLUME /var/lib/drydock
EXPOSE 10001 10005
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m CMD ["/drydock", "ready"]
ENTRYPOINT ["/drydock"]
CMD ["serve"]

FROM debian:bookworm-slim AS drydock-full
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates tzdata mariadb-client mariadb-backup mariadb-server mydumper restic openssh-client \
 && rm -rf /var/lib/apt/lists/* /var/lib/mysql \
 && groupadd --gid 10001 drydock \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/drydock --shell /usr/sbin/nologin drydock \
 && install -d -m 0700 -o drydock -g drydock /var/lib/drydock
COPY --from=build /out/drydock /usr/local/bin/drydock
USER 10001:10001
VOLUME /var/lib/drydock
EXPOSE 10001 10005
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m CMD ["drydock", "ready"]
ENTRYPOINT ["drydock"]
CMD ["serve"]

FROM mariadb:10.11 AS database
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mariadb-backup mydumper socat openssl curl gawk \
 && rm -rf /var/lib/apt/lists/*
COPY --chmod=0755 scripts/dbjobs packaging/compose/dbjobs-loop packaging/compose/database /usr/local/bin/
ENTRYPOINT ["database"]

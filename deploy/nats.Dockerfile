# The NATS server of the version that Mandrill is tested with, from its module, built by `make images`.
FROM scratch
COPY nats-server /nats-server
COPY --chown=65532:65532 data /data
USER 65532:65532
VOLUME /data
ENTRYPOINT ["/nats-server"]

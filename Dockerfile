# syntax=docker/dockerfile:1
# A static binary on an empty-handed base: no shell, no package manager, not root.

FROM docker.io/library/rust:1.95-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -qy --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The name of the musl target depends on the machine that builds; so does its C compiler's name.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && cargo build --release --locked --target "$target" --bin countersign \
    && mkdir -p /out/data \
    && cp "target/$target/release/countersign" /out/countersign

FROM gcr.io/distroless/static-debian12:nonroot
LABEL org.opencontainers.image.title="countersign" \
      org.opencontainers.image.description="An authenticating HTTP forward proxy: requests go in bare and leave with the right credential." \
      org.opencontainers.image.source="https://github.com/countersign/countersign" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/countersign /countersign
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# Inside a container only the container's own network can reach a listener on every address.
ENV COUNTERSIGN_DATA_DIR=/data \
    COUNTERSIGN_PROXY__LISTEN=0.0.0.0:3128 \
    COUNTERSIGN_WEB__LISTEN=0.0.0.0:8080 \
    COUNTERSIGN_ADMIN__LISTEN=0.0.0.0:9464
EXPOSE 3128 8080 9464
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/countersign", "health"]
ENTRYPOINT ["/countersign"]
CMD ["serve"]

# One image with both programs; glibc, because that is what the builder links against.
FROM rust:1.95-bookworm AS build
WORKDIR /waygate
COPY . .
RUN cargo build --release --locked -p waygate-webhook -p waygate-worker -p kubectl-waygate

FROM debian:bookworm-slim
# Certificate authorities for https endpoints: the slim image has none.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /waygate/target/release/waygate-webhook /waygate/target/release/waygate-worker /waygate/target/release/kubectl-waygate /usr/local/bin/
# By number: runAsNonRoot cannot be checked for a name. manifests/chart/templates/_helpers.tpl has the same number.
USER 65532:65532

# One image with both programs; glibc, because that is what the builder links against.
FROM rust:1.95-bookworm AS build
WORKDIR /waygate
COPY . .
RUN cargo build --release --locked -p waygate-webhook -p waygate-worker -p kubectl-waygate

FROM debian:bookworm-slim
# What https endpoints are checked by: the slim image trusts no authority.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /waygate/target/release/waygate-webhook /waygate/target/release/waygate-worker /waygate/target/release/kubectl-waygate /usr/local/bin/
# By number: the kubelet cannot tell whether a name is root's. manifests/deployments.yaml names the same.
USER 65532:65532

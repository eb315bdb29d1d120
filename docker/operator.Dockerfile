# The build context holds the one binary; `make images` puts it there, built with the toolchain that the repository pins.
# Reproducible: nothing here depends on time or network, if BASE is given by digest.
ARG BASE=gcr.io/distroless/cc-debian12
FROM ${BASE}

ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kubedr-operator" \
      org.opencontainers.image.description="Operator of KubeDR: turns backup policies into jobs and reports what became of them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --chmod=0755 kubedr-operator /usr/local/bin/kubedr-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/kubedr-operator"]

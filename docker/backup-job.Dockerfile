# The build context holds the one binary; `make images` puts it there, built with the toolchain that the repository pins.
# Reproducible: nothing here depends on time or network, if BASE is given by digest.
ARG BASE=gcr.io/distroless/cc-debian12
FROM ${BASE}

ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kubedr-backup-job" \
      org.opencontainers.image.description="Job of KubeDR: initialises a repository, backs up etcd and certificates, restores; works without a cluster too" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --chmod=0755 kubedr-backup-job /usr/local/bin/kubedr-backup-job
# Only a backup pod of the cluster runs as uid 0, and its pod specification says so: the certificates are root's.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/kubedr-backup-job"]

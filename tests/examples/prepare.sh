#!/bin/sh
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs on a host of the lab, and lets the names of the examples lead to the world of tests/examples. OWN names the directory
# below /shared that is /shared for as long, NAMES are lines for /etc/hosts, AUTHS is an authfile.
set -eu
own=$1 names=$2 auths=$3

cp /etc/hosts /etc/hosts.before-examples
cp /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt.before-examples
cat /etc/ssl/lab-ca.pem >> /etc/ssl/certs/ca-certificates.crt
printf '%s' "$names" >> /etc/hosts

mkdir -p /local /scratch /data /srv/definitions /srv/www "/shared/$own" /root/.docker /etc/pki/tls/certs /etc/pki/containers /opt/images
mount -t tmpfs -o mode=755 local /local
mount --bind "/shared/$own" /shared
mkdir -p /shared/images
cp /etc/ssl/lab-ca.pem /etc/pki/tls/certs/example-org.pem
(umask 077 && printf '%s' "$auths" > /root/.docker/config.json)

#!/bin/sh
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs on a host of the lab, and takes back what prepare.sh and the examples did there. OWN is that of prepare.sh.
set -u
own=$1

if [ -e /etc/hosts.before-examples ]; then
    cp /etc/hosts.before-examples /etc/hosts
    cp /etc/ssl/certs/ca-certificates.crt.before-examples /etc/ssl/certs/ca-certificates.crt
    rm -f /etc/hosts.before-examples /etc/ssl/certs/ca-certificates.crt.before-examples
    umount /local /shared
fi
rm -rf /var/lib/sregistry /var/lib/bases /var/lib/overlays /opt/images /opt/jobs /scratch /local /apps /archive /data \
    /incoming /input /srv/definitions /srv/www /etc/pki/containers /etc/pki/tls /root/.docker /root/.singularity \
    /root/.apptainer /home/vanessa "/shared/$own"

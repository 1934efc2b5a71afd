#!/bin/sh
# Collects the rules of this node for ruleaudit. Run it as root on the node:
#
#   sh collect.sh [OUTPUT]
#
# OUTPUT is a file that ends in .tar.gz, or a folder that is not there yet. Without it, one is named after the node.
# NODE_NAME, if it is set, is the name of the Node that this is. Nothing on the node is changed, no kernel module is loaded for it, and it
# needs nothing but a POSIX shell with the usual tools (busybox will do). It is written whole or not at all. Then, elsewhere:
#
#   ruleaudit check OUTPUT --objects objects.json        (or --cluster instead of --objects)
set -u
umask 077
LC_ALL=C
PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
export LC_ALL PATH

fail() {
    printf 'collect.sh: %s\n' "$1" >&2
    exit 2
}

[ "$(id -u)" -eq 0 ] || fail 'rules can only be read as root: run it with sudo'
name=$(uname -n)
output=${1:-ruleaudit-$name-$(date -u +%Y%m%dT%H%M%SZ).tar.gz}
output=${output%/}
# What begins with "-" would be an option of tar and mv.
case $output in -*) output=./$output ;; esac
case $output in
    *.tar.gz | *.tgz)
        [ -d "$output" ] && fail "$output: is a folder; name a file"
        for tool in tar gzip; do
            command -v "$tool" >/dev/null 2>&1 || fail "there is no $tool here to make an archive: name a folder instead of $output"
        done
        ;;
    *.zip | *.tar | *.tar.* | *.7z) fail "$output: no such file is written; name one that ends in .tar.gz or .tgz, or a folder" ;;
    *) [ -e "$output" ] && fail "$output: is there already; name a folder that is not" ;;
esac
parent=$(dirname -- "$output")
[ -d "$parent" ] || fail "$output: there is no such folder to write to"
base=$(basename -- "$output")
base=${base%.tar.gz}
base=${base%.tgz}
case $base in -*) base=capture$base ;; esac
work=$parent/.$base.$$
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work" "$work/$base" || fail "$output: cannot be written"
files=$work/$base
lacking=$work/lacking
errors=$work/errors
: >"$lacking"

# Text as a JSON string.
json() {
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

# lacks WHAT WHY HINT: notes what could not be collected.
lacks() {
    [ -s "$lacking" ] && printf ',' >>"$lacking"
    printf '\n  {"what": %s, "why": %s, "hint": %s}' "$(json "$1")" "$(json "$2")" "$(json "$3")" >>"$lacking"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# holds FILE PATTERN: whether a file has a line that matches.
holds() {
    [ -f "$1" ] && grep -q -e "$2" "$1"
}

# kernel MODULE SYMBOL: whether the kernel has a module, loaded or built in. Without /proc/modules it cannot load any.
kernel() {
    [ -e /proc/modules ] || return 0
    grep -q "^$1 " /proc/modules && return 0
    built_in=/lib/modules/$(uname -r)/modules.builtin
    if [ -e "$built_in" ]; then
        grep -q "/$1\.ko" "$built_in"
    else
        grep -q " $2\$" /proc/kallsyms 2>/dev/null
    fi
}

# rules FILE COMMAND: keeps what it prints where there is a table in it.
rules() {
    if "$2" >"$files/$1" 2>"$errors"; then
        if grep -q "^# Table .nat' is incompatible" "$files/$1"; then
            lacks "$2" "the nat table was not read: $2 says that it holds what only nft can print" \
                'see the output of nft list ruleset for what is no rule of iptables in it'
        fi
        grep -q '^\*[a-z]' "$files/$1" || rm -f "$files/$1"
    else
        lacks "$2" "$2 failed: $(head -n 1 "$errors")" 'run it by hand and see what it says'
        rm -f "$files/$1"
        failed=$2
    fi
}

# save PREFIX BACKEND: the rules of one backend, by its own tool or by the only one that there is.
save() {
    if has "$1-$2-save"; then
        rules "$1-$2-save.txt" "$1-$2-save"
        return 0
    fi
    has "$1-save" || return 1
    case $("$1-save" --version 2>/dev/null) in
        *nf_tables*) [ "$2" = nft ] || return 1 ;;
        *) [ "$2" = legacy ] || return 1 ;;
    esac
    rules "$1-save.txt" "$1-save"
}

began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
started=$(date +%s)
failed=
seen=
without=
nft=no
kernel nf_tables nft_do_chain && nft=yes
for prefix in iptables ip6tables; do
    before=$(wc -c <"$lacking")
    names=/proc/net/${prefix%tables}_tables_names
    tables=
    [ ! -e "$names" ] || tables=$(tr '\n' ' ' <"$names")
    if [ -n "$tables" ] && ! save "$prefix" legacy; then
        lacks "$prefix-legacy-save" "the legacy tables ($tables) were not read: there is no $prefix-legacy-save here" 'install the package iptables'
    fi
    if [ "$nft" = yes ] && ! save "$prefix" nft; then
        lacks "$prefix-nft-save" "whether iptables-nft holds rules was not seen: there is no $prefix-nft-save here" 'install the package iptables'
    fi
    if [ "$(wc -c <"$lacking")" -eq "$before" ]; then
        seen="$seen $prefix"
        set -- "$files/$prefix"-*.txt
        if [ ! -e "$1" ] || ! cat "$@" | grep -q '^\*nat'; then
            without="$without $prefix"
        fi
    fi
done
set -- "$files"/ip*tables-*.txt
[ -e "$1" ] || set -- /dev/null
if [ -n "$failed" ] && ! cat "$@" | grep -q KUBE-; then
    fail "$failed failed: $(head -n 1 "$errors")"
fi

# What stands beside the rules: only what kube-proxy or a rule uses.
by_rules=no
any_set=no
cat "$@" | grep -q -e '--match-set KUBE-' && by_rules=yes
cat "$@" | grep -q -e '--match-set ' && any_set=yes
proxy_sets=$by_rules
if kernel ip_set ip_set_test; then
    if has ipset && ipset save >"$files/ipset.txt" 2>"$errors"; then
        holds "$files/ipset.txt" '^create KUBE-' && proxy_sets=yes
        [ "$any_set" = yes ] || [ "$proxy_sets" = yes ] || rm -f "$files/ipset.txt"
    else
        rm -f "$files/ipset.txt"
        [ "$any_set" = no ] || lacks ipset 'the sets that rules ask for were not read: there is no ipset here, or it failed' 'install the package ipset'
    fi
fi
if [ -e /proc/net/ip_vs ]; then
    servers=no
    grep -q -e '^TCP ' -e '^UDP ' -e '^SCTP ' -e '^FWM ' /proc/net/ip_vs && servers=yes
    if has ipvsadm && ipvsadm -Sn >"$files/ipvsadm.txt" 2>"$errors"; then
        if [ ! -s "$files/ipvsadm.txt" ]; then
            # An empty listing has a headline: it says that there is none, as an empty file does not.
            rm -f "$files/ipvsadm.txt"
            [ "$proxy_sets" = no ] || ipvsadm -Ln >"$files/ipvsadm.txt" 2>/dev/null
        fi
    else
        rm -f "$files/ipvsadm.txt"
        if [ "$proxy_sets" = yes ] || [ "$servers" = yes ]; then
            lacks ipvsadm 'the virtual servers of IPVS were not read: there is no ipvsadm here, or it failed' 'install the package ipvsadm'
        fi
    fi
fi
if has ip && ip -j addr >"$files/ip-addr.json" 2>"$errors" && [ -s "$files/ip-addr.json" ]; then
    :
elif rm -f "$files/ip-addr.json" && has ip && ip addr >"$files/ip-addr.txt" 2>"$errors"; then
    :
else
    rm -f "$files/ip-addr.txt"
    [ "$proxy_sets" = no ] || lacks ip 'the addresses of the interfaces were not read: there is no ip here' 'install the package iproute2'
fi
if [ "$nft" = yes ] && ! cat "$@" | grep -q KUBE-SERVICES; then
    if ! has nft || ! nft list tables >"$work/tables" 2>/dev/null; then
        seen=
        without=
        lacks nft 'iptables holds no rules of kube-proxy, and whether it has an nftables ruleset was not seen: there is no nft here, or it failed' \
            'install the package nftables'
    elif grep -q -e '^table ip kube-proxy' -e '^table ip6 kube-proxy' "$work/tables"; then
        nft -j list ruleset >"$files/nft.json" 2>/dev/null
        if [ ! -s "$files/nft.json" ]; then
            rm -f "$files/nft.json"
            nft list ruleset >"$files/nft.txt" 2>/dev/null || rm -f "$files/nft.txt"
        fi
    fi
fi

# That there are no rules is a dump, too: as iptables-save prints it where the tables are there, and no rule in them.
for prefix in $without; do
    family=4
    [ "$prefix" = iptables ] || family=6
    what=rule
    file=$prefix-save.txt
    set -- "$files/$prefix"-*.txt
    if [ -e "$1" ]; then
        what='nat table'
        file=$prefix-no-nat.txt
    fi
    {
        printf '# No %s of IPv%s is here: the chains of the kernel accept everything.\n' "$what" "$family"
        printf '# Generated by %s-save\n' "$prefix"
        [ "$what" = 'nat table' ] || printf '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n'
        printf '*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n'
    } >"$files/$file"
done
found=no
[ -z "$seen" ] || found=yes
for one in "$files"/*.txt "$files/nft.json"; do
    case $one in
        */ipvsadm.txt | */nft.txt | */nft.json) [ ! -e "$one" ] || found=yes ;;
        *) ! holds "$one" KUBE- || found=yes ;;
    esac
done
[ "$found" = yes ] || fail "nothing tells whether kube-proxy has rules here:$(sed -n 's/.*"why": "\(.*\)", "hint".*/ \1;/p' "$lacking" | tr -d '\n') run this where kube-proxy runs"

# kube-proxy's command line and configuration. A configuration is kept only if it is one: links may lead elsewhere.
own=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
    program=$(tr '\000' '\n' 2>/dev/null <"$process/cmdline" | head -n 1)
    [ "${program##*/}" = kube-proxy ] || continue
    [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$own" ] || continue
    tr '\000' '\n' <"$process/cmdline" >"$work/words"
    # As a shell would take it; of a flag only its value is quoted, so that it is still seen to be one.
    sed "/[^A-Za-z0-9_.\/:=,@%+-]/{s/'/'\\\\''/g;s/^\(--[A-Za-z0-9_-]*=\)\(.*\)\$/\1'\2'/;t
s/^/'/;s/\$/'/;}" <"$work/words" >"$files/kube-proxy.args"
    config=$(sed -n -e 's/^--config=//p' -e '/^--config$/{n;p;}' "$work/words" | head -n 1)
    file=$process/root/${config#/}
    if [ -n "$config" ] && [ -f "$file" ] && [ "$(wc -c <"$file")" -lt 1048576 ]; then
        cat "$file" >"$work/config"
        if holds "$work/config" 'KubeProxyConfiguration' && ! holds "$work/config" '^kind: Secret' &&
            ! holds "$work/config" '^users:' && ! holds "$work/config" '^clusters:'; then
            cat "$work/config" >"$files/kube-proxy-config.yaml"
        fi
    fi
    break
done

# What kube-proxy says of itself, where something is there to ask it.
ask() {
    if has curl; then
        curl -fsS -m 3 "http://127.0.0.1:10249$1" 2>/dev/null
    elif has wget; then
        wget -qO- -T 3 "http://127.0.0.1:10249$1" 2>/dev/null
    fi
}
version=$(ask /metrics | sed -n 's/^kubernetes_build_info{.*git_version="\([^"]*\)".*/\1/p' | head -n 1)
mode=$(ask /proxyMode | head -n 1)
case $mode in iptables | ipvs | nftables | userspace) ;; *) mode= ;; esac

# meta.json
tools=
for tool in iptables-legacy-save iptables-nft-save iptables-save ipset; do
    [ -e "$files/$tool.txt" ] || continue
    said=$("$tool" --version 2>/dev/null | head -n 1)
    tools="$tools${tools:+, }$(json "$tool"): $(json "$said")"
done
{
    printf '{\n "kube_proxy_version": %s,\n' "$(if [ -n "$version" ]; then json "$version"; else printf null; fi)"
    [ -z "$mode" ] || printf ' "mode": %s,\n' "$(json "$mode")"
    [ -z "${NODE_NAME:-}" ] || printf ' "node": %s,\n' "$(json "$NODE_NAME")"
    printf ' "hostname": %s,\n "captured_at": %s,\n' "$(json "$name")" "$(json "$began")"
    printf ' "dump_seconds": %s,\n "kernel": %s,\n' "$(($(date +%s) - started))" "$(json "$(uname -r)")"
    printf ' "tools": {%s},\n "not_collected": [%s],\n' "$tools" "$(cat "$lacking")"
    printf ' "collected_by": "ruleaudit collect --script"\n}\n'
} >"$files/meta.json"

case $output in
    *.tar.gz | *.tgz)
        if ! (cd "$work" && tar -cf capture.tar "$base" && gzip capture.tar) || ! mv -f "$work/capture.tar.gz" "$output"; then
            fail "$output: cannot be written"
        fi
        ;;
    *) mv "$files" "$output" || fail "$output: cannot be written" ;;
esac
printf 'collect.sh: wrote %s\n' "$output" >&2

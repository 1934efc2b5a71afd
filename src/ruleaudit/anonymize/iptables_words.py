"""The words of iptables' own matches and targets (1.8, extensions/): what else calls itself so in a dump is somebody's, and no word of these."""

from __future__ import annotations

from typing import Final

__all__ = ["FLAGS", "MODULES"]

MODULES: Final = frozenset(
    """
    addrtype ah bpf cgroup cluster comment connbytes connlabel connlimit connmark conntrack cpu dccp devgroup dscp dst ecn esp eui64 frag
    hashlimit hbh helper hl icmp icmp6 icmpv6 ipcomp iprange ipv6header ipvs length limit mac mark mh multiport nfacct osf owner physdev
    pkttype policy quota rateest realm recent rpfilter rt sctp set socket srh state statistic string tcp tcpmss time tos ttl u32 udp
    """.split()  # noqa: SIM905  words are read more easily than literals
)
"""Matches, as they follow `-m`."""
FLAGS: Final = frozenset(
    """
    accept-local add-set ahlen ahres ahspi alarm algo among-dst among-dst-file among-src among-src-file and-mark and-tos append
    arp-gratuitous arp-htype arp-ip-dst arp-ip-src arp-mac-dst arp-mac-src arp-op arp-opcode arp-ptype arpreply-mac arpreply-target
    bytecode bytes-eq bytes-gt bytes-lt cgroup check checksum-fill chunk-types clamp-mss-to-pmtu cluster-hash-seed cluster-local-node
    cluster-local-nodemask cluster-total-nodes clustermac cmd-owner comment compres connbytes connbytes-dir connbytes-mode connlimit-above
    connlimit-daddr connlimit-mask connlimit-saddr connlimit-upto contiguous cpu ctdir ctevents ctexpire ctmask ctorigdst ctorigdstport
    ctorigsrc ctorigsrcport ctproto ctrepldst ctrepldstport ctreplsrc ctreplsrcport ctstate ctstatus datestart datestop dccp-option
    dccp-types del-set delete delete-chain destination destination-port destination-ports dir dnat-target dport dports dscp dscp-class
    dst-group dst-len dst-opts dst-pfx dst-range dst-type ecn ecn-ip-ect ecn-tcp-cwr ecn-tcp-ece ecn-tcp-remove espspi every exact exist
    expevents flush fragfirst fragid fraglast fraglen fragment fragmore fragres from gateway genre gid-owner goto h-length hash-init
    hashlimit hashlimit-above hashlimit-burst hashlimit-dstmask hashlimit-htable-expire hashlimit-htable-gcinterval hashlimit-htable-max
    hashlimit-htable-size hashlimit-mode hashlimit-name hashlimit-rate-interval hashlimit-rate-match hashlimit-srcmask hashlimit-upto
    hashmode hbh-len hbh-opts header helper hex-string hitcount hl-dec hl-eq hl-gt hl-inc hl-lt hl-set hmark-dport hmark-dport-mask
    hmark-dst-prefix hmark-mod hmark-offset hmark-proto-mask hmark-rnd hmark-spi hmark-spi-mask hmark-sport hmark-sport-mask
    hmark-src-prefix hmark-tuple icase icmp-type icmpv6-type in-interface insert invert ip-dport ip-dst ip-icmp-type ip-igmp-type ip-proto
    ip-sport ip-src ip-tos ip6-dport ip6-dst ip6-icmp-type ip6-proto ip6-sport ip6-src ip6-tclass ipcompspi ipv4 ipv6 ipvs jump kerneltz
    label led-always-blink led-delay led-trigger-id left-shift-mark length limit limit-burst limit-iface-in limit-iface-out line-numbers
    list list-rules local-node localtz log log-arp log-ip log-ip-options log-ip6 log-level log-macdecode log-prefix log-tcp-options
    log-tcp-sequence log-uid loose mac-source mangle-ip-d mangle-ip-s mangle-mac-d mangle-mac-s mangle-target map-mark map-prio map-queue
    map-set mark mark-and mark-or mark-set mark-target mark-xor mask match match-set mh-type mode modprobe monthdays mss name new next
    nfacct-name nflog nflog-group nflog-prefix nflog-range nflog-size nflog-threshold nfmask notrack nowildcard numeric object-pinned oif
    on-ip on-port or-mark or-tos out-interface packet packets-eq packets-gt packets-lt path persistent physdev-in physdev-is-bridged
    physdev-is-in physdev-is-out physdev-out pid-owner pinned pkt-type pkttype-type pol policy ports probability proto protocol
    queue-balance queue-bypass queue-cpu-fanout queue-num quota random random-fully rateest rateest-bps1 rateest-bps2 rateest-delta
    rateest-eq rateest-ewmalog rateest-gt rateest-interval rateest-lt rateest-name rateest-pps1 rateest-pps2 rateest1 rateest2 rcheck
    rdest realm reap redirect-target reject-with remove rename-chain replace reqid restore restore-mark restore-skmark return-nomatch
    right-shift-mark rsource rt-0-addr rt-0-addrs rt-0-not-strict rt-0-res rt-len rt-segsleft rt-type rttl sack-perm save save-mark
    seconds selctx set set-class set-counters set-dscp set-dscp-class set-mark set-mss set-tos set-xmark sid-owner snat-arp snat-target
    socket-exists soft source source-port source-ports spi sport sports src-group src-pfx src-range src-type srh-hdr-len-eq srh-hdr-len-gt
    srh-hdr-len-lt srh-last-entry-eq srh-last-entry-gt srh-last-entry-lt srh-lsid srh-next-hdr srh-nsid srh-psid srh-segs-left-eq
    srh-segs-left-gt srh-segs-left-lt srh-tag state stp-flags stp-forward-delay stp-hello-time stp-max-age stp-msg-age stp-port
    stp-port-range stp-root-addr stp-root-cost stp-root-prio stp-sender-addr stp-sender-prio stp-type strict string strip-options
    suppl-groups syn table tcp-flags tcp-option timeout timestamp timestart timestop to to-destination to-dst to-ports to-source to-src
    tos total-nodes tproxy-mark transparent ttl ttl-dec ttl-eq ttl-gt ttl-inc ttl-lt ttl-set tunnel-dst tunnel-src type u32 uid-owner
    ulog-cprange ulog-nlgroup ulog-prefix ulog-qthreshold update update-counters update-subcounters vaddr validmark vdir verbose version
    vlan-encap vlan-id vlan-prio vmethod vport vportctl vproto wait weekdays wscale xor-mark xor-tos zero zone zone-orig zone-reply
    """.split()  # noqa: SIM905  words are read more easily than literals
)
"""Options of matches and targets, without their dashes."""

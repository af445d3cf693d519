# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# The queues, interrupts and masks of the network interface for the shards' cores. Until the next boot.

plan_irq() {
    nic=${interface:-$(default_interface)}
    nic_path=/sys/class/net/$nic
    if [ -z "$nic" ] || [ ! -d "$root$nic_path" ]; then
        unknown=$((unknown + 1))
        say unknown "${nic:-the default route}: there is no such interface; name it with --interface"
        return 0
    fi
    [ "$(profile_says irqs)" != apart ] || { [ -n "$rest" ] || note "no core is left for interrupts: list the shards' cores with --cores"; }
    channels
    interrupts
    receiving
    sending
    if running irqbalance; then note "irqbalance is running and will move the interrupts again: systemctl disable --now irqbalance"; fi
}

default_interface() { awk '$2 == "00000000" { print $1; exit }' "$root/proc/net/route" 2>/dev/null; }

running() { cat "$root"/proc/[0-9]*/comm 2>/dev/null | grep -qx "$1"; }

# count rx|tx
count() {
    set -- "$root$nic_path/queues/$1-"*
    if [ -e "$1" ]; then echo $#; else echo 0; fi
}

# As many as there are shards, or as the interface has.
channels() {
    if [ -z "$ethtool" ]; then
        note "no ethtool: $nic keeps its $(count rx) receive queues"
        return 0
    fi
    most=$("$ethtool" -l "$nic" 2>/dev/null | awk '/^Current/ { exit } $1 == "Combined:" { print $2 }')
    case $most in
        '' | *[!0-9]* | 0) note "$nic has no combined queues to choose from: it keeps its $(count rx)" ;;
        *)
            number=$(printf '%s\n' "$core_words" | awk -v most="$most" '{ print NF < most ? NF : most }')
            want channels "$nic" "$number"
            ;;
    esac
}

# NUMBER:QUEUE of each interrupt that carries packets. Its name contains the device and the queue.
queue_irqs() {
    device=$(readlink "$root$nic_path/device" 2>/dev/null)
    own=''
    for folder in "$root$nic_path/device/msi_irqs" "$root$nic_path/device/../msi_irqs"; do
        [ -n "$own" ] || [ ! -d "$folder" ] || own=$(cd -P "$folder" && echo *)
    done
    awk -v own=" $own " -v nic="$nic" -v device="${device##*/}" '
        function mentions(name, word) {
            return word != "" && name ~ ("(^|[^A-Za-z0-9])" word "([^A-Za-z0-9]|$)")
        }
        $1 ~ /^[0-9]+:$/ {
            number = $1 + 0
            name = $NF
            if (index(own, " " number " ") == 0 && !mentions(name, nic) && !mentions(name, device)) next
            if (tolower(name) ~ /config|async|mgm|ctrl|control|aenq|cmd|pages|misc|oicr|event|adminq/) next
            names[++count] = name
            numbers[count] = number
        }
        END {
            for (i = 1; i <= count; i++) {
                if (count > 1 && names[i] == nic) continue
                queue = seen++
                name = names[i]
                sub(/@.*/, "", name)
                if (match(name, /[0-9]+$/)) queue = substr(name, RSTART)
                print numbers[i] ":" queue + 0
            }
        }' "$root/proc/interrupts" 2>/dev/null
}

interrupts() {
    case $(profile_says irqs) in
        shards) home=$core_words ;;
        apart) home=$rest ;;
        *) home='' ;;
    esac
    [ -n "$home" ] || return 0
    found=$(queue_irqs)
    [ -n "$found" ] || note "/proc/interrupts has no interrupts of $nic"
    for pair in $found; do
        # shellcheck disable=SC2086 # words
        want list "/proc/irq/${pair%%:*}/smp_affinity_list" "$(nth "${pair#*:}" $home)"
    done
}

# RPS: on if there are fewer queues than shards and the profile wants it; off if each shard has its own queue.
receiving() {
    spread=0
    # shellcheck disable=SC2086 # words
    if [ "$(count rx)" -lt "$(printf '%s\n' $core_words | wc -l)" ] && [ "$(profile_says rps)" = few-queues ]; then
        spread=$(mask_of $core_words)
    fi
    for queue in "$root$nic_path"/queues/rx-*; do
        [ ! -e "$queue/rps_cpus" ] || want mask "${queue#"$root"}/rps_cpus" "$spread"
    done
}

# XPS: each core has its own send queue, as far as there are enough.
sending() {
    number=$(count tx)
    [ "$number" -gt 1 ] || return 0
    at=0
    while [ "$at" -lt "$number" ]; do
        # shellcheck disable=SC2086 # words
        mine=$(printf '%s\n' $core_words | awk -v at="$at" -v of="$number" '(NR - 1) % of == at' | tr '\n' ' ')
        # shellcheck disable=SC2086 # words
        [ -n "$mine" ] || mine=$(nth "$at" $core_words)
        # shellcheck disable=SC2086 # words
        [ ! -e "$root$nic_path/queues/tx-$at/xps_cpus" ] || want mask "$nic_path/queues/tx-$at/xps_cpus" "$(mask_of $mine)"
        at=$((at + 1))
    done
}

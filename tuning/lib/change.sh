# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Reads, changes, records and restores values. Each part of tuning/tune says what it wants; this file only compares it, shows it
# or applies it. Sourced by tuning/tune, which sets mode, yes, root and state.
#
# The journal has a line for each change, written before it: boot, part, kind, target, old, new, separated by tabs. Kinds:
#   value       a file of /proc or /sys with one value; lost at the next boot
#   choice      a file with the chosen word in brackets; lost at the next boot
#   list, mask  a file with a set of cores; lost at the next boot
#   channels    queues of a network interface (ethtool -L); lost at the next boot
#   controller  a word of cgroup.subtree_control; lost at the next boot
#   file        a file on disk; old is its copy in $state/saved, new its checksum

tab=$(printf '\t')
empty='@empty'
fine=0
changes=0
unknown=0
soft=no
run_begins=0

say() { printf '%-8s %s\n' "$1" "$2"; }

note() { say note "$1"; }

# begin: called before any change. One run at a time.
begin() {
    mkdir -p "$state/saved" || die "cannot write to $state: run as root, or set CORECAST_TUNING_STATE"
    mkdir "$state/lock" 2>/dev/null || die "another run is in progress ($state/lock); if not, remove that folder"
    locked=yes
    trap 'interrupted' HUP INT TERM
    [ -f "$state/journal" ] || : >"$state/journal" || die "cannot write to $state"
    forget_other_boots
    run_begins=$(wc -l <"$state/journal")
}

end() {
    [ "${locked-no}" = no ] || rmdir "$state/lock"
    locked=no
    [ ! -d "$state" ] || [ -s "$state/journal" ] || rm -rf "$state/journal" "$state/saved"
}

die() {
    echo "tune: $1" >&2
    end
    exit 1
}

boot() { cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown; }

# A boot has already undone these, and the numbers of interrupts may have changed.
forget_other_boots() {
    awk -F "$tab" -v boot="$(boot)" '$3 == "file" || $1 == boot' "$state/journal" >"$state/journal.new" && mv "$state/journal.new" "$state/journal"
}

# remember KIND TARGET OLD NEW. The old value is the one before the first change; the new one is the latest.
remember() {
    if awk -F "$tab" -v kind="$1" -v target="$2" '$3 == kind && $4 == target { found = 1 } END { exit !found }' "$state/journal"; then
        awk -F "$tab" -v OFS="$tab" -v kind="$1" -v target="$2" -v new="${4:-$empty}" \
            '$3 == kind && $4 == target { $6 = new } 1' "$state/journal" >"$state/journal.new" && mv "$state/journal.new" "$state/journal"
        # Restored to the value at the begin of this run, not to an earlier one.
        again="$again$1$tab$2$tab${3:-$empty}$tab${4:-$empty}
"
    else
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$(boot)" "$part" "$1" "$2" "${3:-$empty}" "${4:-$empty}" >>"$state/journal"
    fi || die "cannot write $state/journal; no change was made without a record"
}
again=''

# now_is KIND TARGET: the current value.
now_is() {
    case $1 in
        value | list | mask) squeezed "$root$2" ;;
        choice) squeezed "$root$2" | sed 's/.*\[\(.*\)\].*/\1/' | grep . ;;
        channels) "$ethtool" -l "$2" 2>/dev/null | awk '/^Current/ { now = 1 } now && $1 == "Combined:" { print $2 }' | grep -x '[0-9][0-9]*' ;;
        controller) cat "$root$2" 2>/dev/null ;;
        file) [ ! -f "$root$2" ] || cksum <"$root$2" ;;
    esac
}

# same KIND A B: whether both are the same value in different notations.
same() {
    case $1 in
        list) [ "$(words_of "$2")" = "$(words_of "$3")" ] ;;
        mask) [ "$(echo "$2" | tr -d ,0 | wc -c)" = "$(echo "$3" | tr -d ,0 | wc -c)" ] && [ "$(bare "$2")" = "$(bare "$3")" ] ;;
        *) [ "$2" = "$3" ] ;;
    esac
}

bare() { printf '%s\n' "$1" | sed 's/,//g; s/^0*//'; }

# put KIND TARGET VALUE: writes it. The error goes to stdout.
put() {
    put_value=$3
    [ "$put_value" != "$empty" ] || put_value=''
    case $1 in
        channels) "$ethtool" -L "$2" combined "$put_value" 2>&1 ;;
        *) (printf '%s\n' "$put_value" >"$root$2") 2>&1 ;;
    esac
}

# want KIND TARGET VALUE [RULE]: RULE accepts other values too; without it, only the value itself.
want() {
    if ! want_is=$(now_is "$1" "$2"); then
        unknown=$((unknown + 1))
        say unknown "$2: cannot be read here"
        return 0
    fi
    if if [ -n "${4-}" ]; then holds "$want_is" "$4"; else same "$1" "$want_is" "$3"; fi; then
        fine=$((fine + 1))
        say ok "$2: $want_is"
        return 0
    fi
    changes=$((changes + 1))
    case $mode$yes in
        check*) say DIFFERS "$2: is ${want_is:-empty}, expected ${4:-$3}" ;;
        applyno) say would "$2: ${want_is:-empty} -> $3" ;;
        applyyes) change "$1" "$2" "$want_is" "$3" "${4-}" ;;
    esac
}

# change KIND TARGET OLD NEW RULE
change() {
    remember "$1" "$2" "$3" "$4"
    change_error=$(put "$1" "$2" "$4") || {
        refused "$1" "$2" "$4" "$3" "${change_error##*: }"
        return 0
    }
    change_is=$(now_is "$1" "$2") || change_is=''
    if same "$1" "$change_is" "$4"; then
        say set "$2: ${3:-empty} -> $4"
    else
        refused "$1" "$2" "$4" "$3" "the kernel changed it to $change_is"
    fi
}

# refused KIND TARGET NEW OLD WHY: if soft is yes the failure is only reported, otherwise every change of this run is undone.
refused() {
    if [ "$soft" = yes ]; then
        put "$1" "$2" "${4:-$empty}" >/dev/null
        awk -F "$tab" -v kind="$1" -v target="$2" '!($3 == kind && $4 == target)' "$state/journal" >"$state/journal.new" && mv "$state/journal.new" "$state/journal"
        changes=$((changes - 1))
        note "$2: stays ${4:-empty}, it cannot be set to $3 ($5)"
        return 0
    fi
    say FAILED "$2: cannot be set to $3: $5"
    take_back_this_run
    end
    exit 1
}

interrupted() {
    trap '' HUP INT TERM
    echo
    [ "$mode" != apply ] || take_back_this_run
    end
    exit 130
}

# want_file SOURCE TARGET: TARGET should be a copy of SOURCE.
want_file() {
    if cmp -s "$1" "$root$2"; then
        fine=$((fine + 1))
        say ok "$2: the same"
        return 0
    fi
    changes=$((changes + 1))
    file_is=$(if [ -f "$root$2" ]; then echo 'another file'; else echo missing; fi)
    case $mode$yes in
        check*) say DIFFERS "$2: $file_is" ;;
        applyno) say would "$2: $file_is -> a copy of ${1##*/}" ;;
        applyyes)
            saved=$empty
            if [ -f "$root$2" ]; then
                saved=$(printf '%s' "$2" | tr / _)
                [ -f "$state/saved/$saved" ] || cp -p "$root$2" "$state/saved/$saved" || die "cannot keep $2"
            fi
            remember file "$2" "$saved" "$(cksum <"$1")"
            if file_error=$( (mkdir -p "$root${2%/*}" && cp "$1" "$root$2.new" && chmod 644 "$root$2.new" && mv "$root$2.new" "$root$2") 2>&1); then
                say set "$2: $file_is -> a copy of ${1##*/}"
            else
                refused file "$2" "a copy of ${1##*/}" "$saved" "$file_error"
            fi
            ;;
    esac
}

# give_back KIND TARGET OLD: restores OLD. A value that never changed is not written.
give_back() {
    if [ "$1" != controller ] && [ "$1" != file ] && give_back_is=$(now_is "$1" "$2") && same "$1" "${give_back_is:-$empty}" "$3"; then
        return 0
    fi
    case $1$3 in
        file"$empty") rm -f "$root$2" ;;
        file*) cp -p "$state/saved/$3" "$root$2" 2>&1 ;;
        controller*) put value "$2" "-cpuset" ;;
        *) put "$1" "$2" "$3" ;;
    esac
}

# Lines of the journal, the latest first.
backwards() { sed -n '1!G;h;$p'; }

take_back_this_run() {
    back_lines=$(tail -n "+$((run_begins + 1))" "$state/journal" | backwards)
    back_kept=''
    while IFS=$tab read -r back_boot back_part back_kind back_target back_old back_new; do
        [ -n "$back_kind" ] || continue
        if back_error=$(give_back "$back_kind" "$back_target" "$back_old"); then
            say undone "$back_target: back to $(shown "$back_old")"
        else
            back_kept="$back_boot$tab$back_part$tab$back_kind$tab$back_target$tab$back_old$tab$back_new
$back_kept"
            say FAILED "$back_target: still $(shown "$back_new"), was $(shown "$back_old"): $back_error"
        fi
    done <<EOF
$back_lines
EOF
    while IFS=$tab read -r back_kind back_target back_old back_new; do
        [ -n "$back_kind" ] || continue
        give_back "$back_kind" "$back_target" "$back_old" >/dev/null && say undone "$back_target: back to $(shown "$back_old")"
    done <<EOF
$again
EOF
    { head -n "$run_begins" "$state/journal" && printf '%s' "$back_kept"; } >"$state/journal.new" && mv "$state/journal.new" "$state/journal"
    if [ -z "$back_kept" ]; then
        echo "Every change of this run was undone."
    else
        echo "The changes above that could not be undone are kept in $state/journal: tuning/tune undo --yes tries again."
    fi
}

shown() { if [ "$1" = "$empty" ]; then echo empty; else printf '%s\n' "$1"; fi; }

# undo PART...: undoes the changes of these parts, or of all; the latest first.
undo() {
    undo_parts=" $* "
    undo_lines=$(backwards <"$state/journal")
    undo_left=''
    undo_failed=0
    while IFS=$tab read -r undo_boot undo_part undo_kind undo_target undo_old undo_new; do
        [ -n "$undo_kind" ] || continue
        undo_line="$undo_boot$tab$undo_part$tab$undo_kind$tab$undo_target$tab$undo_old$tab$undo_new"
        case $undo_parts in
            *" $undo_part "*) undo_one ;;
            *) undo_left="$undo_line
$undo_left" ;;
        esac
    done <<EOF
$undo_lines
EOF
    [ "$yes" = no ] || printf '%s' "$undo_left" >"$state/journal"
    [ "$undo_failed" = 0 ]
}

undo_one() {
    changes=$((changes + 1))
    undo_to=$(shown "$undo_old")
    [ "$undo_kind" != file ] || undo_to=$(if [ "$undo_old" = "$empty" ]; then echo 'no such file'; else echo 'the file before'; fi)
    [ "$undo_kind" != controller ] || undo_to='no cpuset'
    undo_is=$(now_is "$undo_kind" "$undo_target") || undo_is=''
    if [ "$undo_kind" != controller ] && ! same "$undo_kind" "${undo_is:-$empty}" "$undo_new"; then
        say note "$undo_target: was changed since; it stays ${undo_is:-empty} and is no longer recorded"
    elif [ "$yes" = no ]; then
        say would "$undo_target: back to $undo_to"
    elif undo_error=$(give_back "$undo_kind" "$undo_target" "$undo_old"); then
        say undone "$undo_target: back to $undo_to"
    else
        say FAILED "$undo_target: cannot go back to $undo_to: $undo_error"
        undo_failed=1
        undo_left="$undo_line
$undo_left"
    fi
}

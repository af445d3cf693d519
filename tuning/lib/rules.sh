# shellcheck shell=sh
# Values and the rules that they are judged by: sourced by tuning/check and tuning/tune.
#
# The line "# check:" above a value is the rule that it is judged by; "# cost:" is for the doctor; the other comment lines
# are its reason.

# at_least A B: whether A >= B, also where the numbers are beyond the shell's.
at_least() {
    case $1 in
        unlimited | infinity) return 0 ;;
    esac
    [ "${#1}" -eq "${#2}" ] || {
        [ "${#1}" -gt "${#2}" ]
        return
    }
    awk -v a="$1" -v b="$2" 'BEGIN { exit !((a "") >= (b "")) }'
}

# holds "VALUE" "RULE": RULE is "[field N] at least|at most|exactly NUMBER", several joined by commas.
holds() {
    rule_value=$1
    rule_rest=$2
    while [ -n "$rule_rest" ]; do
        rule_one=${rule_rest%%,*}
        case $rule_rest in
            *,*) rule_rest=${rule_rest#*,} ;;
            *) rule_rest='' ;;
        esac
        # shellcheck disable=SC2086 # the words of the rule
        set -- $rule_one
        rule_is=$rule_value
        if [ "$1" = field ]; then
            rule_is=$(printf '%s\n' "$rule_value" | awk -v n="$2" '{ print $n }')
            shift 2
        fi
        case "$1 ${2-}" in
            "at least") at_least "$rule_is" "$3" || return 1 ;;
            "at most") at_least "$3" "$rule_is" || return 1 ;;
            exactly*)
                shift
                [ "$rule_is" = "$*" ] || return 1
                ;;
            *)
                echo "cannot read the rule: $rule_one" >&2
                exit 64
                ;;
        esac
    done
}

# each_knob FILE FUNCTION: calls FUNCTION KEY VALUE RULE WHY for every "key = value" of the file whose key has a dot. A key
# keeps its leading "-", which says that the kernel need not have it.
each_knob() {
    knob_why=''
    knob_rule=''
    while IFS= read -r knob_line <&3 || [ -n "$knob_line" ]; do
        case $knob_line in
            '')
                knob_why=''
                knob_rule=''
                ;;
            '# check: '*) knob_rule=${knob_line#'# check: '} ;;
            '# cost: '*) ;;
            '#'*) knob_why="$knob_why${knob_why:+ }$(printf '%s' "${knob_line#'#'}" | sed 's/^ //')" ;;
            *.*=*)
                knob_key=$(printf '%s' "${knob_line%%=*}" | tr -d ' ')
                knob_value=$(printf '%s' "${knob_line#*=}" | sed 's/^ *//; s/ *$//')
                "$2" "$knob_key" "$knob_value" "${knob_rule:-exactly $knob_value}" "$knob_why"
                ;;
        esac
    done 3<"$1"
}

# squeezed FILE: its text on one line, fields apart by one space. Fails where it cannot be read.
squeezed() {
    squeezed_text=$(cat "$1" 2>/dev/null) || return 1
    printf '%s\n' "$squeezed_text" | awk '{ $1 = $1; line = line (NR > 1 ? " " : "") $0 } END { print line }'
}

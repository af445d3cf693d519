# shellcheck shell=sh
# Sets of cores: "0-3,8" as the kernel lists them, "0 1 2 3 8" as words, "10f" as masks.

# words_of LIST: what is no core or range of them is left out.
words_of() {
    printf '%s\n' "$1" | awk -F, '{
        for (i = 1; i <= NF; i++) {
            if ($i !~ /^[0-9]+(-[0-9]+)?$/) continue
            n = split($i, ends, "-")
            for (cpu = ends[1] + 0; cpu <= ends[n] + 0; cpu++) out = out (out == "" ? "" : " ") cpu
        }
    } END { print out }'
}

# list_of WORD...
list_of() {
    printf '%s\n' "$*" | awk '{
        for (i = 1; i <= NF; i++) {
            first = $i
            while (i < NF && $(i + 1) == $i + 1) i++
            out = out (out == "" ? "" : ",") (first == $i ? first : first "-" $i)
        }
    } END { print out }'
}

# mask_of WORD...: groups of 32 bits in hexadecimal, the highest first. Of none: 0.
mask_of() {
    printf '%s\n' "$*" | awk '{
        for (i = 1; i <= NF; i++) { on[$i + 0] = 1; if ($i + 0 > most) most = $i + 0 }
    } END {
        for (group = int(most / 32); group >= 0; group--) {
            text = ""
            for (nibble = 7; nibble >= 0; nibble--) {
                value = 0
                for (bit = 3; bit >= 0; bit--) value = value * 2 + ((group * 32 + nibble * 4 + bit) in on)
                text = text sprintf("%x", value)
            }
            out = out (out == "" ? "" : ",") text
        }
        print out
    }'
}

# without "WORD..." "WORD...": the first less the second.
without() {
    for without_one in $1; do
        case " $2 " in
            *" $without_one "*) ;;
            *) printf '%s ' "$without_one" ;;
        esac
    done | sed 's/ $//'
}

# nth N WORD...: counted from 0, round and round.
nth() {
    nth_skip=$(($1 % ($# - 1) + 1))
    shift "$nth_skip"
    printf '%s\n' "$1"
}

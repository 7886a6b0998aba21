package orchestrator

import (
	"errors"
	"strings"
)

// split cuts a command line into words as a shell does: blanks between them, single and double quotes and backslashes
// within. Nothing else has a meaning: no variable, no pattern, no pipe.
func split(line string) (words []string, err error) {
	var word strings.Builder
	inWord, quote := false, rune(0)
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && (quote == 0 || i+1 < len(runes) && strings.ContainsRune("\"\\$`", runes[i+1])):
			if i++; i == len(runes) {
				return nil, errors.New("the command ends in a backslash")
			}
			inWord = true
			word.WriteRune(runes[i])
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			inWord, quote = true, c
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
			}
			inWord = false
			word.Reset()
		default:
			inWord = true
			word.WriteRune(c)
		}
	}
	if quote != 0 {
		return nil, errors.New("the command has a quote that does not end")
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("the command is empty")
	}
	return words, nil
}

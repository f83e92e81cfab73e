package conformance

import "slices"

// Rows returns all rows of docs/semantics.md in its order.
func Rows() []Row {
	rows := slices.Concat(exchangeRows, queueRows, publishRows, confirmRows, txRows, consumeRows, ackRows, qosRows, lifeRows)
	for i := range rows {
		rows[i].Rule = ruleText(rows[i].ID)
	}
	return rows
}

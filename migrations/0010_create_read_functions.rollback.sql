DROP FUNCTION illustrated_steps;
DROP FUNCTION instant;
